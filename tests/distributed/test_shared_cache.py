"""Two gloo ranks fill one cache, and then train from it: the same losses, and nothing computed twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run
from tiny_world import tiny_experts

from isthmus.cache.store import TensorStore

pytestmark = pytest.mark.slow

RUNS = Path(__file__).parents[1] / "training" / "runs.py"
STAGES = ["encoder_alignment", "decoder_alignment"]


def train(experts: Path, folder: Path, cache: Path) -> list[dict[str, Any]]:
    folder.mkdir()
    options = {"denoising": 0.0, "saves": False, "devices": 2, "cache": str(cache), "names": STAGES}
    run(RUNS, str(experts), str(folder), json.dumps(options), ranks=2)
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_ranks_fill_one_cache_and_train_from_it(tmp_path: Path) -> None:
    experts = tiny_experts(tmp_path / "experts")["llama"].parent
    filling = train(experts, tmp_path / "filling", tmp_path / "cache")
    held = len(TensorStore(tmp_path / "cache", 1 << 40))
    assert held > 30 and all(result["found"][1] > 0 for result in filling)
    # Two ranks may meet one caption at once; apart from that each value is computed by one of them alone.
    assert held <= sum(result["found"][1] for result in filling) <= held + 10
    reading = train(experts, tmp_path / "reading", tmp_path / "cache")
    assert [result["found"][1] for result in reading] == [0, 0]
    assert len(TensorStore(tmp_path / "cache", 1 << 40)) == held
    for one, other in zip(filling, reading, strict=True):
        assert one["losses"] == pytest.approx(other["losses"], abs=1e-6)
