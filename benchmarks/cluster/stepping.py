"""A training of one rank, for benchmarks.cluster.scaling.

    python -m benchmarks.cluster.stepping EXPERTS SIZE ENGINE FILE STEPS

FILE gets the wall and CPU seconds of each step, and the bytes that left this host meanwhile. ENGINE is ``ddp``,
``fsdp2``, ``alone`` or ``in step``; all but ``alone`` take their rank from the environment, as torchrun sets it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.utils.data import DataLoader

from benchmarks.cluster.hosts import INTERFACE
from benchmarks.cluster.planning import SIZES, STAGES, WORDS, model_of
from benchmarks.report import quieten
from isthmus.training import StageSwitch, TrainingModule
from isthmus.training.engines import Sharded
from isthmus.training.planning.rehearsing import RankData
from isthmus.training.rehearsal.conversations import conversations_of

ALONE, IN_STEP = "alone", "in step"
"""Without an engine: a process by itself, and one that begins each step together with the other."""
STAGE = "instruction_tuning"
ROWS = 16
"""Conversations of a rank in a step."""
SETTLES = 2
"""Steps that don't count."""


def strategy(engine: str) -> Strategy | str:
    """Of this name."""
    if engine in (ALONE, IN_STEP):
        return "auto"
    return (DDPStrategy if engine == "ddp" else Sharded)(process_group_backend="gloo")


def sent() -> int:
    """Bytes that have left this host; 0 where it has no link of its own."""
    lines = Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines()
    counts = {name.strip(): values.split() for name, _, values in (line.partition(":") for line in lines[2:])}
    return int(counts[INTERFACE][8]) if INTERFACE in counts else 0


class Repeated(RankData):
    """The longest rows in every step."""

    steps: int

    def train_dataloader(self) -> Any:
        """One epoch is the whole training."""
        _, longest = super().train_dataloader()
        batches: Any = [longest] * self.steps
        return DataLoader(batches, batch_size=None, collate_fn=_unchanged)


def _unchanged(batch: Any) -> Any:
    return batch


class Watch(pl.Callback):
    """When each step was over, what CPU time this process had taken by then, and what had been sent.

    Args:
        waits: whether each step begins in all processes together.
    """

    def __init__(self, waits: bool) -> None:
        self.seen: list[tuple[float, float, int]] = []
        self.waits = waits

    def on_train_batch_start(self, *_: Any) -> None:
        """Waits for the others."""
        if self.waits:
            distributed.barrier()

    def on_train_batch_end(self, *_: Any) -> None:
        """Notes all three."""
        self.seen.append((time.perf_counter(), time.process_time(), sent()))


def main() -> None:
    """The training."""
    experts, size, engine, file, steps = Path(sys.argv[1]), *sys.argv[2:4], Path(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(1)
    quieten()
    warnings.simplefilter("ignore")
    model = model_of({name: experts / name for name in ("llama", "imagebind")}, SIZES[size])
    ranks = 1 if engine in (ALONE, IN_STEP) else 2
    if engine == IN_STEP:
        distributed.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]))
    data = Repeated({STAGE: conversations_of(model, STAGES[STAGE], WORDS)}, batch_size=ranks * ROWS)
    data.rows, data.steps = ROWS, SETTLES + steps
    watch, module = Watch(engine == IN_STEP), TrainingModule(model)
    stage = replace(STAGES[STAGE], data={STAGE: 1.0}, steps=SETTLES + steps)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=strategy(engine),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
        default_root_dir=file.parent / file.stem,
        callbacks=[StageSwitch({STAGE: stage}, None, file.parent / f"{file.stem}-run"), watch],
    )
    trainer.fit(module, datamodule=data)
    counted = watch.seen[SETTLES - 1 :]
    found = {
        "seconds": [after[0] - before[0] for before, after in pairwise(counted)],
        "cpu_seconds": [after[1] - before[1] for before, after in pairwise(counted)],
        "sent": (counted[-1][2] - counted[0][2]) / (len(counted) - 1),
    }
    file.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
