"""The Point-BERT expert: from clouds to features, and its refusals."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.encoders.point_bert.model import ULIP1, PointBertConfig, PointBertModel
from isthmus.types import Media, Modality

CLOUD = Media(Modality.POINTS, np.random.default_rng(0).random((90, 6), dtype=np.float32))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, small_point_bert: PointBertConfig) -> Path:
    """A small model in ULIP's nesting, other towers and the training script's leavings beside it."""
    folder = tmp_path_factory.mktemp("point_bert")
    torch.manual_seed(3)
    weights = {f"module.{key}": value for key, value in PointBertModel(small_point_bert).state_dict().items()}
    weights["module.open_clip_model.visual.proj"] = torch.ones(2, 2)
    torch.save({"epoch": 1, "args": argparse.Namespace(lr=1e-3), "state_dict": weights}, folder / "ulip.pt")
    (folder / "config.json").write_text(json.dumps({"point_bert": asdict(small_point_bert)}))
    return folder


@pytest.mark.parametrize(("tokens", "count", "width"), [("pooled", 1, 8), ("patch", 9, 16)])
@torch.no_grad()
def test_features(
    checkpoint: Path, small_point_bert: PointBertConfig, tokens: Literal["pooled", "patch"], count: int, width: int
) -> None:
    encoder = PointBert(checkpoint, tokens=tokens)
    inputs = encoder.preprocess(CLOUD)
    assert inputs["points"].shape == (64, 6)
    assert encoder.width(Modality.POINTS) == width and encoder.token_count(Modality.POINTS, inputs) == count
    assert not encoder.is_loaded
    cloud = torch.stack([inputs["points"], inputs["points"].flip(0)])
    features = encoder(Modality.POINTS, {"points": cloud})
    assert features.tokens.shape == (2, count, width) and features.mask.shape == (2, count)
    torch.manual_seed(3)
    original = PointBertModel(small_point_bert).eval()
    expected = original(cloud).unsqueeze(1) if tokens == "pooled" else original.tokens(cloud)
    torch.testing.assert_close(features.tokens, expected)


@torch.no_grad()
def test_golden_through_the_expert(
    tmp_path: Path, golden_file: Callable[[str], Any], assert_close: Callable[[Tensor, Tensor, str], None]
) -> None:
    golden = golden_file("pointbert_colored")
    sizes = {key: value for key, value in golden.about["config"].items() if key != "cls_dim"}
    config = PointBertConfig(points=256, embed_dim=golden.about["embed_dim"], **sizes)
    save_checkpoint(tmp_path, "point_bert", config, golden.state)
    inputs = {"points": golden.inputs["points"]}
    assert_close(PointBert(tmp_path)(Modality.POINTS, inputs).tokens[:, 0], golden.outputs["pc_embed"], "pooled")
    assert_close(PointBert(tmp_path, tokens="patch")(Modality.POINTS, inputs).tokens, golden.outputs["tokens"], "patch")


def test_frozen_whatever_its_owner_says(checkpoint: Path) -> None:
    encoder = PointBert(checkpoint)
    encoder.load()
    encoder.train()
    inputs = {"points": encoder.preprocess(CLOUD)["points"][None].repeat(2, 1, 1)}
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with torch.enable_grad():
        assert not encoder(Modality.POINTS, inputs).tokens.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_published_files_have_published_sizes() -> None:
    assert PointBert("ulip2.pt").config == PointBertConfig()
    assert PointBert("ulip1.pt", published="ulip1").config == ULIP1
    scan = Media(Modality.POINTS, np.random.default_rng(1).random((600, 6), dtype=np.float32))
    assert PointBert("ulip2.pt").preprocess(scan)["points"].shape == (10000, 6)
    assert PointBert("ulip1.pt", published="ulip1").preprocess(scan)["points"].shape == (8192, 3)


XYZ = PointBertConfig(
    points=64,
    colored=False,
    trans_dim=16,
    depth=1,
    num_heads=2,
    group_size=8,
    num_group=8,
    encoder_dims=16,
    embed_dim=8,
)


def nested(weights: dict[str, Tensor], nesting: str) -> dict[str, Any]:
    """A point tower's weights as ULIP's training saves them, SLIP's other towers beside it, or out of all nesting."""
    if nesting == "flat":
        return dict(weights)
    others = ("visual.cls_token", "transformer.resblocks.0.ln_1.bias", "token_embedding.weight", "ln_final.bias")
    others += ("positional_embedding", "text_projection", "image_projection")
    prefix = "module." if nesting == "distributed" else ""
    stored = {f"{prefix}{key}": value for key, value in weights.items()}
    stored |= {f"{prefix}{key}": torch.ones(2, 2) for key in others}
    training = {"optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}, "scaler": {}, "best_acc1": 60.4}
    return {"epoch": 249, "state_dict": stored, "args": argparse.Namespace(lr=1e-3, model="ULIP_PointBERT")} | training


@pytest.mark.parametrize("nesting", ["distributed", "one process", "flat"])
@torch.no_grad()
def test_ulip1_is_read_from_its_nesting(nesting: str, tmp_path: Path) -> None:
    """Places alone, three features a point; colours of a cloud are left out."""
    torch.manual_seed(5)
    original = PointBertModel(XYZ).eval()
    torch.save(nested(original.state_dict(), nesting), tmp_path / "ulip1.pt")
    (tmp_path / "config.json").write_text(json.dumps({"point_bert": asdict(XYZ)}))
    encoder = PointBert(tmp_path, published="ulip1")
    cloud = encoder.preprocess(CLOUD)["points"][None]
    assert cloud.shape == (1, 64, 3)
    torch.testing.assert_close(encoder(Modality.POINTS, {"points": cloud}).tokens[:, 0], original(cloud))
    plain = Media(Modality.POINTS, CLOUD.array[:, :3])
    assert torch.equal(encoder.preprocess(plain)["points"][None], cloud)


@torch.no_grad()
def test_ulip1_at_its_published_size(tmp_path: Path, layout: Callable[[str], dict[str, tuple[int, ...]]]) -> None:
    """The file's own keys and shapes, 8,192 points or, by a config, 1,024; and the sizes of the wrong generation."""
    torch.manual_seed(0)
    stored = {key: torch.zeros(shape) for key, shape in layout("ulip1_pointbert_8k_xyz").items()}
    stored = {key: torch.randn(value.shape) * 0.02 if value.ndim > 1 else value for key, value in stored.items()}
    stored |= {key: torch.ones_like(value) for key, value in stored.items() if key.endswith("running_var")}
    file = tmp_path / "ulip1.pt"
    torch.save({"epoch": 249, "state_dict": stored, "args": argparse.Namespace(lr=1e-3)}, file)
    encoder = PointBert(file, published="ulip1")
    inputs = encoder.preprocess(Media(Modality.POINTS, np.random.default_rng(1).random((9000, 3), dtype=np.float32)))
    assert inputs["points"].shape == (8192, 3) and encoder.width(Modality.POINTS) == 512
    features = encoder(Modality.POINTS, {"points": inputs["points"][None]})
    assert features.tokens.shape == (1, 1, 512) and features.tokens.isfinite().all()
    (tmp_path / "config.json").write_text(json.dumps({"point_bert": {"points": 1024}}))
    few = PointBert(tmp_path, tokens="patch", published="ulip1")
    inputs = few.preprocess(Media(Modality.POINTS, np.random.default_rng(1).random((3000, 3), dtype=np.float32)))
    assert inputs["points"].shape == (1024, 3)
    assert few(Modality.POINTS, {"points": inputs["points"][None]}).tokens.shape == (1, 513, 384)
    with pytest.raises(ValueError, match=r"ulip1\.pt: found ulip1's published sizes; .*ulip2: .*`published` to ulip1"):
        PointBert(file).load()


def test_refusals(checkpoint: Path, tmp_path: Path, small_point_bert: PointBertConfig) -> None:
    few = Media(Modality.POINTS, CLOUD.array[:5], source="few.ply")
    with pytest.raises(ValueError, match=r"few\.ply: points: found 5; expected at least 8"):
        PointBert(checkpoint).preprocess(few)
    with pytest.raises(ValueError, match="image: this encoder serves points"):
        PointBert(checkpoint).width(Modality.IMAGE)
    with pytest.raises(ValueError, match="tokens: found 'all'"):
        PointBert(checkpoint, tokens="all")
    with pytest.raises(ValueError, match="published: found 'ulip3'"):
        PointBert(checkpoint, published="ulip3")
    with pytest.raises(ValueError, match=r"gone\.pt: weights files found: none"):
        PointBert(tmp_path / "gone.pt").load()


def test_a_checkpoint_of_another_model(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ulip\.pt: .*missing: modality_heads.*checkpoint of another model"):
        ImageBind(checkpoint / "ulip.pt", modalities=("audio",)).load()


def test_half_precision_groups_the_same_points(checkpoint: Path) -> None:
    encoder = PointBert(checkpoint, tokens="patch")
    inputs = {"points": encoder.preprocess(CLOUD)["points"][None]}
    full = encoder(Modality.POINTS, inputs).tokens
    half = encoder.to(torch.bfloat16)(Modality.POINTS, inputs).tokens
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.1, rtol=0)
