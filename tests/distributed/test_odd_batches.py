"""Two gloo ranks whose batches have nothing in common learn, validate and answer as one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run
from tiny_world import tiny_experts

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("odd_batches.py")


def learnt(experts: Path, folder: Path, engine: str, devices: int) -> list[dict[str, Any]]:
    """What each rank found, by stage."""
    folder.mkdir()
    said = run(PROGRAM, str(experts), str(folder), engine, str(devices), ranks=devices)
    assert "sync_dist" not in said  # Lightning's warning of figures that aren't those of all ranks
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(devices)]


def test_ranks_without_anything_in_common(tmp_path: Path) -> None:
    experts = tiny_experts(tmp_path / "experts")["llama"].parent
    (alone,) = learnt(experts, tmp_path / "alone", "single", 1)
    for engine in ("ddp", "fsdp2"):
        ranks = learnt(experts, tmp_path / engine, engine, 2)
        for name, expected in alone.items():
            one, other = (rank[name] for rank in ranks)
            assert one["losses"] == pytest.approx(expected["losses"], abs=1e-4), (engine, name)
            for path, own in expected["weights"].items():
                assert torch.equal(one["weights"][path], other["weights"][path])
                torch.testing.assert_close(one["weights"][path], own, rtol=1e-3, atol=1e-4, msg=f"{engine} {path}")
            for figure, value in expected["figures"].items():
                if figure.startswith(("validation/", "evaluation/")):
                    assert one["figures"][figure] == other["figures"][figure] == pytest.approx(value, abs=1e-4), figure
            answers = [one["answers"], other["answers"]]
            assert [len(own) for own in answers] == [3, 2]
            lengths = [[len(answer) for answer in own] for own in answers]
            assert any(ours != theirs for ours, theirs in zip(*lengths, strict=False))
