"""What a run keeps and says that ends before its last stage is over (:mod:`isthmus.training.running.ending`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from isthmus.training.checkpoints.found import SUFFIX
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints
from isthmus.training.running.ending import learnt_batches, why_ending
from isthmus.training.running.signals import Signals

log = logging.getLogger(__name__)


def keep(trainer: pl.Trainer, is_epoch_over: bool) -> Path | None:
    """Writes the checkpoint from which a run that ends between two batches goes on; its path.

    None where the run keeps no checkpoints, or this one can't be written and the run's settings tolerate that.
    """
    savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    if not savers or not learnt_batches(trainer):
        return None
    saver = next((each for each in savers if each.save_last), savers[0])
    assert saver.dirpath is not None
    path = saver.last_model_path or str(Path(saver.dirpath, saver.CHECKPOINT_NAME_LAST + SUFFIX))
    for each in savers:  # they would save the same step once more, from counters that say that the stage is over
        each._last_global_step_saved, each._last_checkpoint_saved = trainer.global_step, path
    saver.last_model_path = path
    with _as_after_a_batch(trainer, is_epoch_over):
        trainer.save_checkpoint(path, weights_only=False)
    return Path(path) if finish_saving(trainer) else None


def finish_saving(trainer: pl.Trainer) -> bool:
    """Waits for a checkpoint that is being written; whether the last one is whole.

    Raises:
        ValueError: it can't be written.
    """
    saving = trainer.strategy.checkpoint_io
    if not isinstance(saving, RunCheckpoints):
        return True
    saving.finish()
    return saving.failures == 0


@contextmanager
def _as_after_a_batch(trainer: pl.Trainer, is_epoch_over: bool) -> Iterator[None]:
    """Sets the loops' counters to where they stand in ``on_train_batch_end``, from where Lightning goes on exactly."""
    loop = trainer.fit_loop
    epoch_loop = loop.epoch_loop
    batches: Any = epoch_loop.batch_progress
    epochs: Any = loop.epoch_progress
    stepped = 0 if epoch_loop._should_accumulate() else 1

    def move(by: int) -> None:
        batches.total.completed += by
        batches.current.completed += by
        epoch_loop._batches_that_stepped += by * stepped
        if is_epoch_over:
            epochs.total.processed += by
            epochs.current.processed += by

    move(-1)
    try:
        yield
    finally:
        move(1)


def is_between_batches(trainer: pl.Trainer, exception: BaseException) -> bool:
    """Whether a signal ended a run where a checkpoint may be written, in all of its processes.

    It is answered after a batch. Data workers that had it too are missed while a batch is waited for.
    """
    batches = trainer.fit_loop.epoch_loop.batch_progress.current
    is_ended = isinstance(exception, SIGTERMException) or (trainer.received_sigterm and trainer.world_size == 1)
    return is_ended and batches.completed == batches.ready


class BreakingOff:
    """What a run that ends before its last stage is over keeps and says.

    Attributes:
        signals: those that ask for it.
        why: what ended the run; None as long as it goes on.
    """

    def __init__(self) -> None:
        self.signals = Signals()
        self.why: str | None = None
        self._has_begun = False
        self._kept: Path | None = None

    def begin(self, trainer: pl.Trainer) -> None:
        """The first batch is about to come."""
        self._has_begun = True
        self.signals.listen(trainer)

    def after_stage(self, trainer: pl.Trainer, is_over: bool, is_last: bool) -> None:
        """Finds whether the run ends after its present stage, and keeps a checkpoint where it isn't its proper end."""
        self.why = self.signals.name or why_ending(trainer) or (None if is_over else "a callback")
        if self.why is not None and not (is_over and is_last):
            trainer.should_stop = True
            self._kept = keep(trainer, is_epoch_over=True)

    def after_exception(self, trainer: pl.Trainer, exception: BaseException, left: list[str], at: str | None) -> None:
        """Keeps what can be kept, and tells."""
        try:
            finish_saving(trainer)
        except Exception as error:  # the run's own exception goes on
            log.warning("%s", error)
        if not self._has_begun:
            return
        if self._kept is None and left and is_between_batches(trainer, exception):
            self._kept = keep(trainer, is_epoch_over=False)
        name = "Ctrl-C" if isinstance(exception, KeyboardInterrupt) else type(exception).__name__
        self.why = self.signals.name or name
        self.tell(trainer, left, at)
        if left:
            self.signals.requeue()
        self.signals.leave()

    def tell(self, trainer: pl.Trainer, left: list[str], at: str | None) -> None:
        """Says which stages aren't over, and how to go on.

        Args:
            trainer: of the run.
            left: stages that aren't over.
            at: how far the first of them has come; None if it wasn't begun.
        """
        if not left or not trainer.is_global_zero:
            return
        why = self.why or why_ending(trainer) or "a callback"
        others = left[1:] if at else left
        parts = [f"stage '{left[0]}' isn't over ({at})"] if at else []
        parts += [f"{', '.join(others)} {'were' if len(others) > 1 else 'was'} not begun"] if others else []
        kept = (
            f": {self._kept} holds all {trainer.global_step} steps" if self._kept else ", if a checkpoint was written"
        )
        log.warning("%s ended the run: %s. To go on: --ckpt_path last%s", why, "; ".join(parts), kept)
