"""A run goes on under other engines and numbers of processes than its checkpoints were written by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run
from runs import fit
from tiny_world import tiny_experts
from torch import Tensor
from torch.utils._pytree import tree_leaves

from isthmus.training.checkpoints.found import fault_of
from isthmus.training.checkpoints.shard_reader import read_structure

pytestmark = pytest.mark.slow

RUNS = Path(__file__).parents[1] / "training" / "runs.py"
STAGES = ["encoder_alignment", "decoder_alignment", "instruction_tuning", "preference_tuning", "reward_tuning"]
OPTIONS: dict[str, Any] = {"denoising": 0.0, "names": STAGES, "ema": 0.5}
CHAIN: list[tuple[int, bool, dict[str, Any]]] = [
    (3, False, {"devices": 2}),
    (7, True, {"devices": 4, "shares": {"data_parallel_size": 2}}),
    (12, True, {"checkpoints": {"distributed": True}}),
    (17, True, {"devices": 2, "shares": {}, "checkpoints": {"asynchronous": True}}),
    (20, False, {"devices": 4}),
    (22, False, {}),
]
"""Up to which step a run goes, whether it writes folders, and how it runs: DDP, FSDP2 (``shares``) or one process.

It goes on from the last checkpoint of the one before, each time amid another stage.
"""


def learn(experts: dict[str, Path], folder: Path, **options: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights; one process is this one."""
    if "devices" not in options:
        model, diary = fit(experts, folder, **OPTIONS | options)
        return diary.losses, model.state_dict()
    run(RUNS, str(experts["llama"].parent), str(folder), json.dumps(OPTIONS | options), ranks=options["devices"])
    found = torch.load(folder / "rank_0.pt", weights_only=True)
    return found["losses"], found["weights"]


def test_the_loss_curve_goes_on_across_engines_and_numbers_of_processes(tmp_path: Path) -> None:
    experts = tiny_experts(tmp_path / "experts")
    expected, weights = learn(experts, tmp_path / "whole", saves=False)
    losses: list[float] = []
    begun: str | None = None
    for at, (steps, is_folder, options) in enumerate(CHAIN):
        folder = tmp_path / str(at)
        learnt, found = learn(experts, folder, resume=begun, max_steps=steps, **options)
        losses += learnt
        checkpoint = folder / "checkpoints" / f"step={steps}.ckpt"
        assert checkpoint.is_dir() == is_folder and fault_of(checkpoint) is None
        assert_holds_what_is_learnt(checkpoint, found)
        begun = str(checkpoint)
    assert losses == pytest.approx(expected, abs=1e-4)
    for name, own in weights.items():
        torch.testing.assert_close(found[name], own, rtol=0, atol=5e-3, msg=name)


def assert_holds_what_is_learnt(checkpoint: Path, weights: dict[str, Tensor]) -> None:
    """Weights, and of those that train now two moments, an average and at most a reference; a few counters besides."""
    structure = read_structure(checkpoint)
    assert structure["state_dict"].keys() == {f"model.{name}" for name in weights}
    held = sum(own.nbytes for own in weights.values())
    (optimizer,) = structure["optimizer_states"]
    trains = sum(state["exp_avg"].nbytes for state in optimizer["state"].values())
    stored = sum(own.nbytes for own in tree_leaves(structure) if isinstance(own, Tensor))
    assert 0 < trains <= held and held + 3 * trains <= stored < held + 4 * trains + 10_000
