"""A training step never waits for its device: no operation of any stage reads a value or has a size that is a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from syncs import Syncs
from tiny_world import tiny_experts
from training.runs import NAMES, PREFERENCES, fit

from isthmus.training import GroupPolicy, TrainingModule

ALLOWED = {
    # An expert reads its weights when it is first used.
    "_local_scalar_dense at published.py",
    "tensor at published.py",
    # Noise is drawn on the CPU, from seeds that stay there.
    "tolist at diffusion.py",
    # Whether S can be standardised is asked after one step, two, four: until enough runs have been seen.
    "_local_scalar_dense at standardisation.py",
    # A library's text tower looks whether a caption is padded; each caption's condition is computed once.
    "_local_scalar_dense at audioldm.py",
}
"""What else there is: by operation and file."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@contextmanager
def counted() -> Iterator[list[Counter[str]]]:
    """Every training step of the block, forward and backward, with what would have waited in it.

    The first step of a stage is left out: experts and whether rows can be packed are looked at there. Answers of GRPO
    are drawn, judged and laid out from what was drawn; what is learnt from them comes after.
    """
    steps: list[Counter[str]] = []
    plain, draw, part = TrainingModule.training_step, GroupPolicy._answers, GroupPolicy._losses
    syncs = Syncs()

    def training_step(self: TrainingModule, batch: Any, batch_idx: int) -> torch.Tensor:
        with syncs():
            return plain(self, batch, batch_idx)

    def backward(self: TrainingModule, loss: torch.Tensor) -> None:
        with syncs():
            loss.backward()
        steps.append(syncs.found.copy())
        syncs.found.clear()

    def paused(function: Any) -> Any:
        def run(*args: Any) -> Any:
            with syncs.paused():
                return function(*args)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", training_step)
        patch.setattr(TrainingModule, "backward", backward)
        patch.setattr(GroupPolicy, "_answers", paused(draw))
        patch.setattr(GroupPolicy, "_losses", paused(part))
        yield steps


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("names", [NAMES, PREFERENCES], ids=["curriculum", "preferences"])
def test_no_step_of_any_stage_waits(
    names: list[str], micro_batches: int, paths: dict[str, Path], tmp_path: Path
) -> None:
    with counted() as steps:
        _, diary = fit(paths, tmp_path, names=names, saves=False, micro_batches=micro_batches)
    begins = [at for at, name in enumerate(diary.stages) if at == 0 or diary.stages[at - 1] != name]
    assert len(steps) == len(diary.stages) and len(begins) == len(names)
    waits: dict[str, set[str]] = {name: set() for name in names}
    for at, found in enumerate(steps):
        if at not in begins:
            waits[diary.stages[at]] |= {wait.rpartition(":")[0] for wait in found} - ALLOWED
    assert waits == {name: set() for name in names}


def test_the_counter_sees_what_waits() -> None:
    syncs, tensor = Syncs(), torch.arange(4.0)
    with syncs():
        tensor[tensor > 1].sum().item()
        tensor.nonzero()
        tensor[:2].tolist()
        bool(tensor[0])
        torch.tensor([1.0], device="cpu")
        with syncs.paused():
            tensor.unique()
        tensor[torch.tensor([1, 2])].mean() + tensor.masked_fill(tensor > 1, 0)
    names = Counter(wait.split(" at ")[0] for wait in syncs.found.elements())
    assert names == {"index": 1, "_local_scalar_dense": 2, "nonzero": 1, "tolist": 1, "tensor": 1}
