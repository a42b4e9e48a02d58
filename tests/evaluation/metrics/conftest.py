"""The tiny encoders of media, written once: metrics need no generator and no LLM."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_world import IMAGEBIND, POINT_BERT

from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.point_bert.model import PointBertModel


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Encoder -> its folder."""
    root = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    save_checkpoint(root / "imagebind", "imagebind", IMAGEBIND, ImageBindModel(IMAGEBIND).state_dict())
    save_checkpoint(root / "point_bert", "point_bert", POINT_BERT, PointBertModel(POINT_BERT).state_dict())
    return {name: root / name for name in ("imagebind", "point_bert")}
