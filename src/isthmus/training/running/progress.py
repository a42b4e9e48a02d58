"""The progress of a run in stages: one line a stage, with validation inside it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.trainer.states import TrainerFn

from isthmus.training.running.callbacks import callbacks_of
from isthmus.training.running.stage_line import StageLine
from isthmus.training.running.throughput import TokenRate
from isthmus.training.stage_switch import StageSwitch


class StageProgressBar(ProgressBar):
    """A line for each stage: its name, steps and all of them, the time left, tokens a second and losses.

    It stays when the stage is over. Where stderr is no terminal, lines are printed from time to time instead
    (:mod:`isthmus.training.running.stage_line`). Figures are read only when they are shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True
        self._line: StageLine | None = None

    def enable(self) -> None:
        self.is_enabled = True

    def disable(self) -> None:
        self.is_enabled = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The first batch of a stage, or of what is left of it, begins its line."""
        if self._line is None:
            switches = callbacks_of(trainer, StageSwitch)
            names = [f"{each.name} ({each.index + 1}/{len(each.names)})" for each in switches]
            self._begin(names[0] if names else "training", trainer.num_training_batches, batch_idx)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Shows the step's figures if it is time."""
        line = self._line
        if line is not None and line.is_due and batch_idx + 1 < line.total:
            line.show(batch_idx + 1, self._figures(trainer, pl_module))
        elif line is not None:
            line.done = batch_idx + 1

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Shows validation within the stage's line."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._evaluated(batch_idx)
        elif self._line is not None and self._line.is_due:
            self._line.show(self._line.done, f"validating {batch_idx + 1} of {_total(trainer.num_val_batches)}")

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Shows how far a measurement is."""
        self._evaluated(batch_idx)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins a measurement's line."""
        self._begin("test", _total(trainer.num_test_batches))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins a measurement's line, where validation is all that is run."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._begin("validation", _total(trainer.num_val_batches))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A stage's last line has its last figures."""
        if self._line is not None:
            self._line.show(self._line.done, self._figures(trainer, pl_module), is_over=True)
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """What is said of it stands on a line of its own."""
        self._end()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leaves the terminal as it was."""
        self._end()

    def _begin(self, name: str, total: float, done: int = 0) -> None:
        if self.is_enabled:
            self._line = StageLine(name, int(total), done)

    def _evaluated(self, batch_idx: int) -> None:
        if self._line is not None and (self._line.is_due or batch_idx + 1 == self._line.total):
            self._line.show(batch_idx + 1, "", is_over=batch_idx + 1 == self._line.total)
        if self._line is not None and self._line.done == self._line.total:
            self._end()  # before the results are printed

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _figures(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        rates = [each.latest for each in callbacks_of(trainer, TokenRate)]
        told = [f"{rate:,.0f} tokens/s" for rate in rates if rate is not None]
        metrics = self.get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)  # the number of the log's folder
        told += [
            f"{name.removeprefix('train/')} {value:.3g}" for name, value in metrics.items() if isinstance(value, float)
        ]
        return ", ".join(told)


def _total(batches: Any) -> int:
    return int(sum(batches) if isinstance(batches, list) else batches)
