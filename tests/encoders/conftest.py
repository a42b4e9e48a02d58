"""Golden tensors of the original code, layouts of the published checkpoints, and pocket-sized ImageBind sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.point_bert.model import PointBertConfig

TOLERANCE = 1e-4


class Golden:
    """One golden file: the original code's state, inputs and outputs, and how it was built."""

    def __init__(self, shared: Path, name: str) -> None:
        tensors = load_file(shared / "golden" / f"{name}.safetensors")
        self.state = self._under(tensors, "state.")
        self.inputs = self._under(tensors, "input.")
        self.outputs = self._under(tensors, "output.")
        self.about: dict[str, Any] = json.loads((shared / "golden" / f"{name}.json").read_text())

    @staticmethod
    def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected magnitude."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="session")
def golden_file(shared: Path) -> Callable[[str], Golden]:
    """Name -> the golden file."""
    return lambda name: Golden(shared, name)


@pytest.fixture(scope="session")
def layout(shared: Path) -> Callable[[str], dict[str, tuple[int, ...]]]:
    """Name -> keys and shapes of a published checkpoint."""

    def read(name: str) -> dict[str, tuple[int, ...]]:
        lines = (shared / "layout" / f"{name}.txt").read_text().splitlines()
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
        return {key: tuple(json.loads(shape)) for key, shape, *_ in rows}

    return read


@pytest.fixture(scope="session")
def assert_close() -> Callable[[Tensor, Tensor, str], None]:
    """Fails unless found and expected differ by at most :data:`TOLERANCE`, relative."""

    def compare(found: Tensor, expected: Tensor, name: str) -> None:
        error = relative_error(found.float(), expected.float())
        assert error <= TOLERANCE, f"{name}: relative error {error:.2e}"

    return compare


@pytest.fixture(scope="session")
def small_imagebind() -> ImageBindConfig:
    """Vision, audio and text at a few thousand parameters."""
    return ImageBindConfig(
        modalities=("vision", "text", "audio"),
        out_embed_dim=8,
        image_size=16,
        vision_patch_size=8,
        vision_embed_dim=16,
        vision_num_blocks=2,
        vision_num_heads=2,
        video_clips=2,
        video_clip_seconds=0.5,
        video_crops=1,
        audio_clips=2,
        audio_clip_seconds=0.3,
        audio_num_mel_bins=32,
        audio_target_len=32,
        audio_embed_dim=12,
        audio_num_blocks=2,
        audio_num_heads=2,
        audio_drop_path=0.0,
        text_vocab_size=40,
        text_context_length=8,
        text_embed_dim=16,
        text_num_blocks=2,
        text_num_heads=2,
    )


@pytest.fixture(scope="session")
def small_point_bert() -> PointBertConfig:
    """Point-BERT at a few thousand parameters (its point-wise networks have fixed widths)."""
    return PointBertConfig(
        points=64, trans_dim=16, depth=2, num_heads=2, group_size=8, num_group=8, encoder_dims=16, embed_dim=8
    )
