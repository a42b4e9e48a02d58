"""Tokens a second, logged beside the losses."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from isthmus.layout import on_device
from isthmus.types import Batch

NAME = "train/tokens_per_second"


class TokenRate(pl.Callback):
    """Logs the LLM positions a second that training gets through, of all processes together and without padding.

    Waiting for data counts, validation doesn't. Lightning's ``ThroughputMonitor`` waits for the accelerator at every
    step; this adds up what batches' layouts say, and goes to the device only when the Trainer logs.

    Attributes:
        latest: the rate that was logged last; None before the stage's first.
    """

    def __init__(self) -> None:
        self.latest: float | None = None
        self._tokens = 0
        self._seconds = 0.0
        self._mark = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A stage's rate is its own."""
        self.latest = None
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The time that validation took is left out."""
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Counts, and logs where the Trainer does."""
        learnt = [*batch.pieces, *([] if batch.mixed is None else batch.mixed.pieces)]
        self._tokens += sum(part.position_count for part in learnt)
        now = time.perf_counter()
        self._seconds += now - self._mark
        self._mark = now
        if not trainer._logger_connector.should_update_logs:  # as Lightning's own monitors ask it
            return
        total = trainer.strategy.reduce(on_device(float(self._tokens), pl_module.device), reduce_op="sum")
        self.latest = float(total) / self._seconds
        for logger in trainer.loggers:
            logger.log_metrics({NAME: self.latest}, step=trainer.fit_loop.epoch_loop._batches_that_stepped)
        self._restart()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What came before validation still counts."""
        if not trainer.sanity_checking:
            self._seconds += time.perf_counter() - self._mark

    def _restart(self) -> None:
        self._tokens = 0
        self._seconds = 0.0
        self._mark = time.perf_counter()
