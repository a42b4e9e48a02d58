"""How much of the training time passes in waiting for data, logged beside the losses."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from isthmus.data.batching.loader import ConversationLoader

NAME = "train/input_wait"


class InputWait(pl.Callback):
    """Logs the share of the time since the last logging in which this process waited for its next batch.

    The first batch of a stage, for which workers start, and validation are left out. Nothing is asked of the device.

    Attributes:
        waited: seconds of waiting in the whole run.
        seconds: of training in the whole run, waiting included.
    """

    def __init__(self) -> None:
        self.waited = self.seconds = 0.0
        self._logged = (0.0, 0.0)
        self._mark: tuple[float, float] | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A stage's first batch isn't counted."""
        self._mark = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The clock of a stage begins with its first batch."""
        if self._mark is None:
            self._mark = self._now(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts, and logs where the Trainer does."""
        self._count(trainer)
        if not trainer._logger_connector.should_update_logs:  # as Lightning's own monitors ask it
            return
        waited, seconds = self.waited - self._logged[0], self.seconds - self._logged[1]
        self._logged = (self.waited, self.seconds)
        for logger in trainer.loggers:
            step = trainer.fit_loop.epoch_loop._batches_that_stepped
            logger.log_metrics({NAME: waited / seconds if seconds else 0.0}, step=step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What came before validation still counts."""
        if self._mark is not None:
            self._count(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The time that validation took is left out."""
        if self._mark is not None:
            self._mark = self._now(trainer)

    def _count(self, trainer: pl.Trainer) -> None:
        if self._mark is not None:
            seconds, waited = self._now(trainer)
            self.seconds += seconds - self._mark[0]
            self.waited += waited - self._mark[1]
            self._mark = (seconds, waited)

    def _now(self, trainer: pl.Trainer) -> tuple[float, float]:
        """The clock, and what the stage's loader has waited."""
        loader = trainer.train_dataloader
        return perf_counter(), loader.waited if isinstance(loader, ConversationLoader) else 0.0
