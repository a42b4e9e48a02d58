"""The Q-Former beside transformers' own BLIP-2: the same numbers from the same folder, and the folders it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from isthmus.input_projectors import QFormer
from isthmus.types import Features

SIZES: dict[str, Any] = {"queries": 4, "width": 16, "layers": 3, "heads": 2, "feed_forward": 20}
VISION, LLM = 12, 8


@pytest.fixture(scope="module")
def blip2() -> Any:
    """A random BLIP-2 in its real class."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    config = Blip2Config(
        vision_config={
            "hidden_size": VISION,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
        qformer_config={
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 20,
            "encoder_hidden_size": VISION,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": 20,
            "hidden_size": LLM,
            "ffn_dim": 12,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "word_embed_proj_dim": LLM,
        },
        num_query_tokens=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = Blip2ForConditionalGeneration(config).eval()
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def folder(blip2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blip2")
    blip2.save_pretrained(path)
    return path


def test_equals_the_librarys_own_module(blip2: Any, folder: Path) -> None:
    bridge = QFormer(VISION, LLM, **SIZES, checkpoint=folder).eval()
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = blip2.vision_model(pixels).last_hidden_state
        queried = blip2.qformer(
            query_embeds=blip2.query_tokens.expand(2, -1, -1),
            encoder_hidden_states=tokens,
            encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long),
        ).last_hidden_state
        found, mask = bridge(Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)))
    assert mask.all() and found.shape == (2, 4, LLM)
    torch.testing.assert_close(found, blip2.language_projection(queried), rtol=0, atol=0)
    torch.testing.assert_close(found, blip2.get_image_features(pixels).pooler_output)


def test_a_sharded_half_precision_folder_is_read_too(blip2: Any, folder: Path, tmp_path: Path) -> None:
    weights = {key: tensor.half() for key, tensor in blip2.state_dict().items()}
    blip2.save_pretrained(tmp_path, state_dict=weights, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    bridge = QFormer(VISION, LLM, **SIZES, checkpoint=tmp_path)
    for key, tensor in QFormer(VISION, LLM, **SIZES, checkpoint=folder).state_dict().items():
        assert bridge.state_dict()[key].dtype == torch.float32
        torch.testing.assert_close(bridge.state_dict()[key], tensor.half().float(), rtol=0, atol=0)


def test_the_projection_to_another_llm_starts_anew(blip2: Any, folder: Path) -> None:
    torch.manual_seed(0)
    fresh = QFormer(VISION, 10, **SIZES)
    torch.manual_seed(0)
    bridge = QFormer(VISION, 10, **SIZES, checkpoint=folder)
    assert torch.equal(bridge.language_projection.weight, fresh.language_projection.weight)
    assert torch.equal(bridge.query_tokens, blip2.query_tokens)
    assert torch.equal(bridge.qformer.layernorm.weight, blip2.qformer.layernorm.weight)


def test_a_retrieval_checkpoints_text_branch_is_left_out(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    extra = {f"qformer.encoder.layer.0.{name}.dense.weight": torch.ones(2, 2) for name in ("intermediate", "output")}
    kept = {key: value for key, value in weights.items() if not key.startswith("language_projection.")}
    save_file(kept | extra | {"embeddings.word_embeddings.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    bridge = QFormer(VISION, LLM, **SIZES, checkpoint=tmp_path)
    assert torch.equal(bridge.query_tokens, weights["query_tokens"])


@pytest.mark.parametrize(
    ("sizes", "vision", "said"),
    [
        ({"layers": 2}, VISION, r"unknown: qformer\.encoder\.layer\.2\."),
        ({"layers": 4}, VISION, r"missing: qformer\.encoder\.layer\.3\."),
        ({"queries": 5}, VISION, r"1 differing: query_tokens \(1, 4, 16\) instead of \(1, 5, 16\)"),
        ({}, VISION + 2, r"crossattention.*\(16, 12\) instead of \(16, 14\).*encoder_hidden_size"),
    ],
)
def test_other_sizes_are_one_clear_error(folder: Path, sizes: dict[str, int], vision: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        QFormer(vision, LLM, **(SIZES | sizes), checkpoint=folder)


def test_folders_without_whole_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder; expected BLIP-2 as safetensors"):
        QFormer(VISION, LLM, **SIZES, checkpoint=tmp_path / "absent")
    with pytest.raises(ValueError, match=r"a folder without model\.safetensors"):
        QFormer(VISION, LLM, **SIZES, checkpoint=tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="can't be read as safetensors"):
        QFormer(VISION, LLM, **SIZES, checkpoint=tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="expected JSON with a 'weight_map'"):
        QFormer(VISION, LLM, **SIZES, checkpoint=tmp_path)


def test_default_sizes_are_blip2s() -> None:
    with torch.device("meta"):
        bridge = QFormer(1408, 2560)
    assert bridge.positions(257) == bridge.positions(1) == 32
    # Salesforce/blip2-opt-2.7b: Q-Former 105.1M, queries 32 x 768, projection 768 -> 2560.
    assert sum(p.numel() for p in bridge.parameters()) == 105_137_664 + 32 * 768 + 768 * 2560 + 2560
