"""What Lightning costs: our training run against a loop by hand around the same modules and batches."""

from __future__ import annotations

import logging
import statistics
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger

from benchmarks.captions import conversations, mixed
from benchmarks.measuring import now, ratio
from benchmarks.miniature import SIDE, WIDE, build, write_experts
from benchmarks.report import report
from benchmarks.stages import BATCH, TRAINS, with_features
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.model import AnyToAny
from isthmus.training import LossWeights, Stage, StageSwitch, TokenRate, TrainingModule
from isthmus.training.objectives.supervised import terms_of
from isthmus.training.trainable import set_trainable
from isthmus.types import Batch

STEPS = 16


class Ready(ConversationSource):
    """A source whose conversations nobody reads: the batches are there already."""

    name = "ready"

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


class ReadyData(ConversationDataModule):
    """The project's data module, over batches that are ready: what is measured is the step."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__({"ready": Ready(10_000)}, batch_size=1)
        self.ready = batches

    def train_dataloader(self) -> Any:
        """As many batches as there are steps."""
        assert self.stage is not None
        return Looped(self.ready, len(self.stage))


class Looped:
    """Batches over and over, for so many steps."""

    def __init__(self, batches: list[Batch], steps: int) -> None:
        self.ready = batches
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return (self.ready[step % len(self.ready)] for step in range(self.steps))


class Clock(pl.Callback):
    """When each batch was over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Notes the time."""
        self.times.append(now())


def by_lightning(model: AnyToAny, batches: list[Batch], stage: Stage, folder: Path, steps: int) -> list[float]:
    """Seconds of each step but the first, as ``train.py`` runs them: stage callback, logger, rates, clipping."""
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=TensorBoardLogger(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
        callbacks=[StageSwitch({"it": stage}, None, folder), TokenRate(), LearningRateMonitor("step"), clock],
    )
    trainer.fit(TrainingModule(model), datamodule=ReadyData(batches))
    return _differences(clock.times)


def by_hand(model: AnyToAny, batches: list[Batch], stage: Stage, steps: int) -> list[float]:
    """The same without Lightning."""
    set_trainable(model, stage.trains, "it")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = stage.optimizer(trained)
    scheduler = stage.scheduler(steps)(optimizer)
    times = []
    for step in range(steps):
        terms = terms_of(model, stage.losses, batches[step % len(batches)])
        loss = terms.total(stage.losses, terms.counts())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
        times.append(now())
    return _differences(times)


def _differences(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def run(folder: Path, repetitions: int = 5, steps: int = STEPS) -> Path:
    """Stage 1 and stage 3, the lightest step and the fullest."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module="pytorch_lightning")
    rows = []
    paths = write_experts(folder, WIDE)
    for number in (1, 3):
        model = build(paths, lora=number == 3, size=WIDE)
        stage = Stage(TRAINS[number], LossWeights(alignment=0.0 if number == 1 else 1.0), steps=steps)
        collate = model.collator()
        samples = conversations(number, BATCH[number], SIDE, WIDE.words)
        batches = [with_features(model, collate(rows_)) for rows_ in mixed(samples, BATCH[number])]
        lightning, hand = [], []
        for round_ in range(repetitions + 1):
            # Whole runs take turns; a run's median leaves out what its first batches and its logger's flush cost.
            ran = by_lightning(model, batches, stage, folder / "logs", steps)
            looped = by_hand(model, batches, stage, steps)
            if round_:
                lightning.append(statistics.median(ran))
                hand.append(statistics.median(looped))
        rows.append(
            {
                "stage": number,
                "Lightning / by hand": ratio(lightning, hand),
                "extra ms a step": (statistics.median(lightning) - statistics.median(hand)) * 1e3,
                "ms a step by hand": statistics.median(hand) * 1e3,
            }
        )
    return report("lightning", rows, repetitions=repetitions, steps=steps, goal=1.03)
