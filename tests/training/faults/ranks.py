"""Two ranks that meet one fault after another, each in a run of its own; rank r leaves what it saw in FOLDER/rank_r.pt:

python ranks.py EXPERTS FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import SIGTERMException
from runs import fit
from training.faults.poison import Poison

from isthmus.backbones.owned_state import whole_of
from isthmus.training import RunRecord, SkipNonFinite, SlowRanks
from isthmus.training.engines import Sharded

FIRST = ["encoder_alignment"]


class Signalled(pl.Callback):
    """Sends one rank a signal in a step, counted from 1."""

    def __init__(self, step: int, rank: int, number: int) -> None:
        self.step, self.rank, self.number = step, rank, number

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)


class Clock:
    """Between two looks at it a second passes on the first rank, and three on the second."""

    def __init__(self, own: int) -> None:
        self.seconds, self.now = 1.0 + 2.0 * own, 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def main() -> None:
    """All faults; the strategy joins the ranks, from the variables that the test has set."""
    experts, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    paths = {name: experts / name for name in ("imagebind", "point_bert", "llama", "image", "video", "audio")}
    seen: dict[str, Any] = {}

    def run(name: str, extra: list[pl.Callback], strategy: Any = None, **options: Any) -> Any:
        options |= {"devices": 2, "strategy": strategy or DDPStrategy(process_group_backend="gloo")}
        return fit(paths, folder / name, FIRST, denoising=0.0, extra=extra, **options)

    skips, slow = SkipNonFinite(), SlowRanks(times=2.0)
    slow._clock = Clock(own=int(os.environ["LOCAL_RANK"]))
    extra = [Poison({2}, rank=1), skips, slow, RunRecord()]
    model, diary = run("replicated", extra, saves=False, log_every_n_steps=2)
    weights = {name: whole_of(own) for name, own in model.state_dict().items()}
    seen["replicated"] = {"skipped": skips.skipped, "losses": diary.losses, "weights": weights}

    skips, shards = SkipNonFinite(), Sharded(process_group_backend="gloo")
    sharded, diary = run("sharded", [Poison({2}, rank=1), skips], shards, saves=False)
    weights = {name: whole_of(own) for name, own in sharded.state_dict().items()}
    seen["sharded"] = {"skipped": skips.skipped, "losses": diary.losses, "weights": weights}

    for number in (signal.SIGTERM, signal.SIGUSR1):
        try:
            run(number.name, [Signalled(3, 1, number)])
        except SIGTERMException:
            seen[number.name] = "ended"
    torch.save(seen, folder / f"rank_{model.trainer.global_rank}.pt")


if __name__ == "__main__":
    main()
