"""One loss curve, whatever the engine and the number of processes: the whole curriculum, with both tuning stages."""

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
STAGES = ["encoder_alignment", "decoder_alignment", "instruction_tuning", "preference_tuning", "reward_tuning"]
# Dropout draws by rank and step, so the equality with one process is that of a run without it.
OPTIONS = {"names": STAGES, "denoising": 0.0, "saves": False}
WATCHED = {"watched": True, "validates": True, "val_check_interval": 3, "num_sanity_val_steps": 0}
ENGINES: dict[str, dict[str, Any]] = {
    "2 of DDP, in parts, measured meanwhile": {"devices": 2, "micro_batches": 2} | WATCHED,
    "2 of FSDP2, offloaded, in parts, measured meanwhile": {
        "devices": 2,
        "shares": {"offload": True},
        "micro_batches": 2,
    }
    | WATCHED,
    "4 of DDP": {"devices": 4},
    "4 of FSDP2, two by two, with sharded experts, recomputing": {
        "devices": 4,
        "shares": {
            "data_parallel_size": 2,
            "frozen_sharding": "root",
            "reshard_after_forward": False,
            "activation_checkpointing": True,
        },
    },
}


def result(folder: Path, rank: int = 0) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"rank_{rank}.pt", weights_only=True)
    return loaded


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_experts(tmp_path_factory.mktemp("experts"))["llama"].parent


@pytest.fixture(scope="module")
def alone(experts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    run(RUNS, str(experts), str(folder), json.dumps(OPTIONS | {"ema": 0.5}))
    return folder


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_has_the_loss_curve_of_one_process(engine: str, experts: Path, alone: Path, tmp_path: Path) -> None:
    options = ENGINES[engine]
    said = run(
        RUNS, str(experts), str(tmp_path), json.dumps(OPTIONS | {"ema": 0.5} | options), ranks=options["devices"]
    )
    ranks = [result(tmp_path, rank) for rank in range(options["devices"])]
    assert ranks[0]["losses"] == pytest.approx(result(alone)["losses"], abs=1e-4)
    for other in ranks[1:]:
        assert all(torch.equal(own, other["weights"][path]) for path, own in ranks[0]["weights"].items())
        assert other["figures"] == ranks[0]["figures"]
    if "watched" in options:
        assert "evaluation/draw/image/made" in ranks[0]["figures"]
        assert "H of image differs from prompt to prompt by" in said
    for file in (alone / STAGES[-1]).glob("*.safetensors"):
        expected, found = load_file(file), load_file(tmp_path / STAGES[-1] / file.name)
        for tensor, own in expected.items():
            torch.testing.assert_close(found[tensor], own, rtol=0, atol=5e-3, msg=f"{file.name}:{tensor}")
