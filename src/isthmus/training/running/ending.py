"""When a stage is over, and what becomes of a run that ends before its last one is.

A stage is over when all of its scheduled batches were learnt, or when ``EarlyStopping`` finds that it learns no more.
Whatever else ends the loop (``max_steps``, ``max_time``, a signal, an exception, a callback) leaves the stage
unfinished: nothing is written as its result, no other stage is entered, a checkpoint is kept from which the run goes on
at the next batch, and the command line ends with another exit code than 0.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from isthmus.training.running.callbacks import callbacks_of

EVERY_BATCH = 1.0
"""Lightning's value of ``limit_train_batches`` that limits nothing; the integer 1 is one batch."""


def check_length(trainer: pl.Trainer, stages: int) -> None:
    """Refuses what would give stages another length than their own.

    Raises:
        ValueError: ``limit_train_batches``, ``overfit_batches`` or ``max_epochs`` are set.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
        return
    limit: Any = trainer.limit_train_batches
    if isinstance(limit, int) or limit != EVERY_BATCH or trainer.overfit_batches:  # type: ignore[attr-defined]
        raise ValueError(
            f"trainer.limit_train_batches: found {limit}; expected none, as a stage is over when all of its batches "
            "were learnt. Fix: set training.stages.NAME.steps, or try a run with --trainer.fast_dev_run true."
        )
    if trainer.max_epochs not in (None, -1, 1000, stages):  # 1000 is Lightning's own default
        raise ValueError(
            f"trainer.max_epochs: found {trainer.max_epochs}; expected none, as a stage is one epoch of Lightning's. "
            "Fix: set training.stages.NAME.epochs or .steps."
        )


def learnt_batches(trainer: pl.Trainer) -> int:
    """How many batches of the present stage were learnt."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def ended_early(trainer: pl.Trainer) -> bool:
    """Whether ``EarlyStopping`` has ended the stage because it learns no more; a loss that diverges is no such end."""
    enough = (EarlyStoppingReason.PATIENCE_EXHAUSTED, EarlyStoppingReason.STOPPING_THRESHOLD)
    return any(callback.stopping_reason in enough for callback in callbacks_of(trainer, EarlyStopping))


def forget_early_stopping(trainer: pl.Trainer) -> None:
    """Begins a stage's early stopping anew: another stage has another loss."""
    for callback in callbacks_of(trainer, EarlyStopping):
        if callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = False
        callback.wait_count = callback.stopped_epoch = 0
        callback.stopping_reason, callback.stopping_reason_message = EarlyStoppingReason.NOT_STOPPED, None
        callback.best_score = torch.tensor(torch.inf if callback.monitor_op == torch.lt else -torch.inf)


def forget_best(trainer: pl.Trainer) -> None:
    """Begins a stage's own count of best checkpoints: the last stage's losses were others. Its files stay."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
            callback.best_k_models, callback.kth_best_model_path = {}, ""
            callback.best_model_path, callback.best_model_score = "", None
            callback.kth_value = torch.tensor(torch.inf if callback.mode == "min" else -torch.inf)


def why_ending(trainer: pl.Trainer) -> str | None:
    """What ends the run after the present stage, in words; None if nothing does."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"trainer.max_steps {trainer.max_steps} (raise it to go on)"
    for timer in callbacks_of(trainer, Timer):
        if (timer.time_remaining() or 1) <= 0:
            return "trainer.max_time (raise it to go on; it counts the time before a resumption, too)"
    return "a callback" if trainer.should_stop and not ended_early(trainer) else None
