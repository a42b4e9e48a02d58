"""Two gloo ranks that hold a model in shares learn, save, resume and leave what one process does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run
from safetensors.torch import load_file
from tiny_world import tiny_experts

pytestmark = pytest.mark.slow

RUNS = Path(__file__).parents[1] / "training" / "runs.py"
# A stage a process: the strategy restores a checkpoint after the optimizer is made.
STAGES = ["encoder_alignment", "decoder_alignment", "instruction_tuning"]


def learn(experts: Path, folder: Path, **options: Any) -> None:
    settings = json.dumps({"denoising": 0.0} | options)
    run(RUNS, str(experts), str(folder), settings, ranks=options.get("devices", 1))


def result(folder: Path, rank: int = 0) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"rank_{rank}.pt", weights_only=True)
    return loaded


def test_two_shares_learn_what_one_process_learns(tmp_path: Path) -> None:
    experts = tiny_experts(tmp_path / "experts")["llama"].parent
    begun: str | None = None
    for name in STAGES:
        alone, shared = tmp_path / "alone" / name, tmp_path / "shared" / name
        learn(experts, alone, names=[name], init_from=begun, saves=False)
        learn(experts, shared, names=[name], init_from=begun, devices=2, shares=True)
        assert result(shared)["losses"] == pytest.approx(result(alone)["losses"], abs=1e-4)
        ranks = [result(shared, rank)["weights"] for rank in range(2)]
        assert ranks[0].keys() == ranks[1].keys()
        assert all(torch.equal(ranks[0][path], ranks[1][path]) for path in ranks[0])
        for file in (alone / name).glob("*.safetensors"):
            expected, found = load_file(file), load_file(shared / name / file.name)
            for tensor, own in expected.items():
                torch.testing.assert_close(found[tensor], own, rtol=0, atol=5e-3, msg=f"{file.name}:{tensor}")
        begun = str(alone / name)
    checkpoint = str(tmp_path / "shared" / STAGES[-1] / "checkpoints" / "step=3.ckpt")
    resumed, whole = tmp_path / "resumed", result(tmp_path / "shared" / STAGES[-1])
    learn(experts, resumed, names=STAGES[-1:], resume=checkpoint, devices=2, shares=True, saves=False)
    assert result(resumed)["losses"] == whole["losses"][3:]
    assert all(torch.equal(own, whole["weights"][path]) for path, own in result(resumed)["weights"].items())
