"""The progress bar of a run in stages."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from isthmus.training.stage_switch import StageSwitch


class StageProgressBar(TQDMProgressBar):
    """A bar for each stage, under its name, which stays when the stage is over.

    Args:
        refresh_rate: batches between two updates; every batch on a terminal and every tenth elsewhere if None.
    """

    def __init__(self, refresh_rate: int | None = None) -> None:
        if refresh_rate is None:
            refresh_rate = 1 if sys.stdout.isatty() else 10
        super().__init__(refresh_rate=refresh_rate, leave=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Names the stage."""
        super().on_train_epoch_start(trainer)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
            if isinstance(callback, StageSwitch):
                self.train_progress_bar.set_description(f"{callback.name} ({callback.index + 1}/{len(callback.names)})")

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What the model shows, without the number of the log's folder."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {name.removeprefix("train/"): value for name, value in metrics.items()}
