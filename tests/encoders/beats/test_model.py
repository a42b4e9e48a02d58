"""BEATs' architecture against the original code's tensors and the published checkpoint's layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention

from isthmus.encoders.beats.config import BINS, BeatsConfig
from isthmus.encoders.beats.encoder import beats_banks
from isthmus.encoders.beats.model import BeatsModel, Layer, narrowed_mask, relative_buckets

Compare = Callable[[Tensor, Tensor, str], None]
OFFICIAL = {
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "embed_dim": 512,
    "input_patch_size": 16,
    "conv_bias": False,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "num_buckets": 320,
    "max_distance": 800,
    "finetuned_model": False,
}


def built(golden: Any) -> BeatsModel:
    """The golden file's model, with its weights."""
    sizes = golden.about["config"]
    names = [field.name for field in dataclasses.fields(BeatsConfig) if field.name in sizes]
    model = BeatsModel(BeatsConfig(**{name: sizes[name] for name in names})).eval()
    model.load_state_dict(golden.state, strict=True)
    return model


@pytest.fixture(scope="module")
def golden(golden_file: Callable[[str], Any]) -> Any:
    return golden_file("beats")


def banks_of(golden: Any) -> Tensor:
    return torch.stack([torch.from_numpy(beats_banks(row.numpy())) for row in golden.inputs["waveform"]])


@torch.no_grad()
def test_every_stored_intermediate(golden: Any, assert_close: Compare) -> None:
    model, banks = built(golden), banks_of(golden)
    mask = narrowed_mask(~golden.inputs["sample_padding_mask"], banks.shape[1])
    patches = model.patches(banks)
    projected = model.projected(patches)
    first, bias = model.encoder.placed(projected, None), model.encoder.position_bias(patches.shape[1])
    padded, patch_mask = model(banks, mask)
    found = {
        "fbank": banks,
        "patch_ln": patches,
        "patch_proj": projected,
        "layer0_in": first.transpose(0, 1),
        "layer0_out": model.encoder.layers[0](first, bias, None).transpose(0, 1),
        "pos_bias": bias,
        "features": model(banks)[0],
        "features_padded": padded,
        "fbank_padding_mask": ~mask,
        "padding_mask": ~patch_mask,
    }
    assert {key.removeprefix("pre.") for key in golden.outputs} == found.keys()
    assert not patch_mask.all(), "one of the stored recordings is padded"
    for name, tensor in found.items():
        assert_close(tensor, golden.outputs[f"pre.{name}"].to(tensor.dtype), name)


@torch.no_grad()
def test_fine_tuned(golden_file: Callable[[str], Any], assert_close: Compare) -> None:
    golden = golden_file("beats_finetuned")
    model, banks = built(golden), banks_of(golden)
    tokens, everything = model(banks)
    assert_close(model.classify(tokens, everything), golden.outputs["probs"], "probs")
    padded, mask = model(banks, narrowed_mask(~golden.inputs["sample_padding_mask"], banks.shape[1]))
    assert torch.equal(~mask, golden.outputs["padding_mask"])
    assert_close(model.classify(padded, mask), golden.outputs["probs_padded"], "probs_padded")


def test_published_layout(layout: Callable[[str], dict[str, tuple[int, ...]]]) -> None:
    with torch.device("meta"):
        model = BeatsModel(BeatsConfig())
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == layout("beats_iter3_plus_as2m")
    assert sum(parameter.numel() for parameter in model.parameters()) == 90311792  # the shared table counts once


def test_fine_tuned_layout() -> None:
    with torch.device("meta"):
        state = BeatsModel(BeatsConfig(finetuned_model=True)).state_dict()
    assert state["predictor.weight"].shape == (527, 768) and state["predictor.bias"].shape == (527,)


def test_constants() -> None:
    config = BeatsConfig()
    found = dataclasses.asdict(config)
    assert found.pop("predictor_class") == 527 and found == OFFICIAL
    assert config.patches_per_row == 8 and BINS == 128
    with torch.device("meta"):
        model = BeatsModel(config)
    assert {norm.eps for norm in model.modules() if isinstance(norm, nn.LayerNorm)} == {1e-5}
    layers = [layer for layer in model.modules() if isinstance(layer, Layer)]
    assert {layer.alpha for layer in layers} == {24**0.25}  # DeepNorm of 12 layers
    assert len({id(layer.self_attn.relative_attention_bias) for layer in layers}) == 1
    assert model.patch_embedding.stride == model.patch_embedding.kernel_size == (16, 16)


@pytest.mark.parametrize(("buckets", "max_distance", "length"), [(320, 800, 1500), (320, 800, 7), (32, 128, 300)])
def test_buckets_are_t5s(buckets: int, max_distance: int, length: int) -> None:
    places = torch.arange(length)
    expected = T5Attention._relative_position_bucket(
        places[None] - places[:, None], bidirectional=True, num_buckets=buckets, max_distance=max_distance
    )
    assert torch.equal(relative_buckets(length, buckets, max_distance), expected)


@given(st.integers(1, 9), st.integers(0, 9))
def test_whole_rows_narrow_to_whole_rows(rows: int, real: int) -> None:
    frames = (torch.arange(16 * rows) < 16 * real)[None]
    assert narrowed_mask(frames, 8 * rows)[0].tolist() == [patch < 8 * real for patch in range(8 * rows)]


@torch.no_grad()
def test_what_is_masked_reaches_no_valid_patch() -> None:
    config = BeatsConfig(
        encoder_layers=2, encoder_embed_dim=16, encoder_ffn_embed_dim=24, encoder_attention_heads=2, embed_dim=8,
        conv_pos=6, conv_pos_groups=4, num_buckets=8, max_distance=20,
    )  # fmt: skip
    model = BeatsModel(config).eval()
    banks = torch.randn(1, 48, BINS)
    alone = model(banks[:, :32])[0]
    mask = torch.arange(48)[None] < 32
    found, patch_mask = model(banks, mask)
    assert patch_mask.sum() == 16
    torch.testing.assert_close(found[patch_mask], alone[0], atol=1e-5, rtol=1e-5)


def test_it_learns_and_the_table_is_shared() -> None:
    config = BeatsConfig(
        encoder_layers=2, encoder_embed_dim=16, encoder_ffn_embed_dim=24, encoder_attention_heads=2, embed_dim=16,
        conv_pos=5, conv_pos_groups=4, num_buckets=8, max_distance=20, finetuned_model=True, predictor_class=3,
    )  # fmt: skip
    model = BeatsModel(config)
    assert "post_extract_proj.weight" not in model.state_dict()  # as wide as the transformer already
    tokens, mask = model(torch.randn(2, 32, BINS))
    model.classify(tokens, mask).sum().backward()
    unreached = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not unreached
    assert model.encoder.layers[1].self_attn.relative_attention_bias.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"encoder_layers": 0}, "encoder_layers: found 0"),
        ({"encoder_attention_heads": 5}, "multiple of encoder_attention_heads, 5"),
        ({"conv_pos_groups": 7}, "multiple of conv_pos_groups, 7"),
        ({"input_patch_size": 8}, "input_patch_size: found 8; expected one of 16"),
        ({"num_buckets": 6}, "num_buckets 6"),
        ({"max_distance": 80}, "max_distance 80"),
    ],
)
def test_sizes_that_do_not_fit(fields: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BeatsConfig(**fields)
