"""ImageBind's architecture against the original code's tensors and the published checkpoint's layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.model import ImageBindModel

Compare = Callable[[Tensor, Tensor, str], None]


@pytest.fixture(scope="module")
def golden(golden_file: Callable[[str], Any]) -> Any:
    return golden_file("imagebind")


@pytest.fixture(scope="module")
def model(golden: Any) -> ImageBindModel:
    sizes = dict(golden.about["config"])
    kernel = sizes.pop("kernel_size")
    assert kernel == [sizes["video_frames"], 14, 14]
    model = ImageBindModel(ImageBindConfig(**sizes)).eval()
    model.load_state_dict(golden.state, strict=True)
    return model


INPUTS = {
    "vision_image": "vision",
    "vision_image_112": "vision",
    "vision_video": "vision",
    "vision_frames5": "vision",
    "audio": "audio",
    "text": "text",
    "depth": "depth",
    "thermal": "thermal",
    "imu": "imu",
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_stored_intermediate(golden: Any, model: ImageBindModel, name: str, assert_close: Compare) -> None:
    tower, inputs = INPUTS[name], golden.inputs[name]
    with torch.no_grad():
        flat = inputs.flatten(0, 1) if inputs.ndim >= 5 else inputs
        tokens = model.stem(tower, flat)
        trunk = model.trunk(tower, tokens)
        found = {
            "tokens": tokens,
            "trunk": trunk,
            "head": model.head(tower, trunk, flat),
            "out": model({tower: inputs})[tower],
        }
        if tower == "text":
            found["seq_len"] = flat.argmax(dim=-1)
    stored = {
        key.removeprefix(f"{name}."): value for key, value in golden.outputs.items() if key.startswith(f"{name}.")
    }
    assert {"head", "out"} <= stored.keys() <= found.keys()
    for part, expected in stored.items():
        assert_close(found[part][: expected.shape[0]], expected, f"{name}.{part}")


def test_unscaled_embedding_is_the_original_without_its_logit_scale(
    golden: Any, model: ImageBindModel, assert_close: Compare
) -> None:
    with torch.no_grad():
        plain = model.embed("audio", golden.inputs["audio"])
    scale = golden.state["modality_postprocessors.audio.1.log_logit_scale"].exp().clamp(max=100)
    assert_close(plain * scale, golden.outputs["audio.out"], "audio")


def test_short_text_equals_padded_text(golden: Any, model: ImageBindModel, assert_close: Compare) -> None:
    ids = golden.inputs["text"]
    longest = int(ids.argmax(dim=-1).max()) + 1
    with torch.no_grad():
        assert_close(model({"text": ids[:, :longest]})["text"], golden.outputs["text.out"], "text")


def test_epsilon_of_every_norm(model: ImageBindModel) -> None:
    found = {name: part.eps for name, part in model.named_modules() if isinstance(part, nn.LayerNorm)}
    assert len(found) == 1 + 6 * 2 * 2 + 6 + 4
    for name, eps in found.items():
        assert eps == (1e-5 if "norm_layer" in name else 1e-6), name


def test_full_size_keys_and_shapes(layout: Callable[[str], dict[str, tuple[int, ...]]]) -> None:
    with torch.device("meta"):
        model = ImageBindModel(ImageBindConfig())
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == layout("imagebind_huge")
    fixed = {name for name, _ in model.named_buffers()}
    scales = {f"modality_postprocessors.{tower}.1.log_logit_scale" for tower in ("audio", "depth", "thermal", "imu")}
    assert fixed == scales | {"modality_preprocessors.text.mask"}


def test_training_reaches_every_parameter(small_imagebind: ImageBindConfig) -> None:
    model = ImageBindModel(small_imagebind).train()
    vision, audio, text = torch.randn(4, 3, 16, 16), torch.randn(4, 2, 1, 32, 32), torch.randint(0, 40, (4, 6))
    outputs = model({"vision": vision, "audio": audio, "text": text})
    loss = sum((output * torch.randn_like(output)).sum() for output in outputs.values())
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert idle == []


def test_stochastic_depth_drops_in_training_only() -> None:
    config = ImageBindConfig(
        modalities=("imu",), imu_length=64, imu_embed_dim=16, imu_num_blocks=2, imu_num_heads=2, imu_drop_path=1 - 1e-9
    )
    model = ImageBindModel(config)
    tokens = model.stem("imu", torch.randn(3, 6, 64))
    blocks = list(model.modality_trunks["imu"].blocks)
    after_first = blocks[0](tokens, None)
    model.train()
    torch.testing.assert_close(model.trunk("imu", tokens), after_first)
    model.eval()
    assert not torch.allclose(model.trunk("imu", tokens), after_first)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"modalities": ("vision", "smell")}, "modalities"),
        ({"vision_embed_dim": 100}, "vision_embed_dim"),
        ({"image_size": 220}, "image_size"),
        ({"audio_target_len": 8}, "audio_target_len"),
        ({"video_crops": 2}, "video_crops"),
        ({"audio_clips": 0}, "audio_clips"),
    ],
)
def test_sizes_that_do_not_fit(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ImageBindConfig(**fields)


def test_towers_are_built_alone() -> None:
    with torch.device("meta"):
        model = ImageBindModel(ImageBindConfig(modalities=("audio",)))
    assert {key.split(".")[1] for key in model.state_dict()} == {"audio"}
