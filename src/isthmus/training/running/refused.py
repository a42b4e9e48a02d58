"""Lightning's callbacks and arguments that a run in stages can't hold: refused by name, with what to use instead.

They assume one optimizer, one loss and one data loader for the whole run, or own what a stage decides: what trains, at
which rate, in batches of which size, and for how long.
"""

from __future__ import annotations

from multiprocessing import get_start_method
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    SpikeDetection,
    StochasticWeightAveraging,
    WeightAveraging,
)
from pytorch_lightning.loggers import WandbLogger

from isthmus.training.running.callbacks import callbacks_of

AVERAGE = "set training.stages.NAME.ema, such as 0.99: an average of what the stage trains, of its own size"

INSTEAD: dict[type[pl.Callback], tuple[str, str]] = {
    BatchSizeFinder: (
        "it tries one batch size before the first stage, and stages differ in what they keep in memory",
        "let `isthmus rehearse` say what a step of each stage takes, and set training.stages.NAME.batch_size; "
        "micro_batches learns the same batch in the memory of a part",
    ),
    LearningRateFinder: (
        "it tries rates before the first stage, for an optimizer that the next stage doesn't have",
        "run the stage by itself for some steps at several rates (--training.run '[NAME]' "
        "--training.stages.NAME.steps 50 --training.stages.NAME.optimizer.init_args.lr 1e-3) and compare train/loss",
    ),
    StochasticWeightAveraging: ("it takes over the schedule of the run's only optimizer", AVERAGE),
    WeightAveraging: ("it copies frozen experts too, and averages over stages that train unlike parts", AVERAGE),
    BaseFinetuning: (
        "it freezes and unfreezes what a stage sets",
        "name what learns under training.stages.NAME.trains, and unfreeze more in a further stage",
    ),
    GradientAccumulationScheduler: (
        "a mean of batches' means, it would weigh the tokens of unlike batches unlike",
        "give the stage the whole batch_size, and divide it by the stage's micro_batches",
    ),
    ModelPruning: (
        "it puts other parameters in the place of those that a stage trains and saves",
        "lower LoRA's rank, or choose narrower projectors",
    ),
    SpikeDetection: (
        "it holds a stage's losses against those of the stage before, and ends the run",
        "set trainer.gradient_clip_val, or EarlyStopping's divergence_threshold",
    ),
}


def check_callbacks(trainer: pl.Trainer, validates: bool) -> None:
    """Checks what the run's callbacks would do to a run in stages.

    Args:
        trainer: with its callbacks.
        validates: whether there is validation data.

    Raises:
        ValueError: one of them can't be held, or would have no effect.
    """
    for callback in callbacks_of(trainer, pl.Callback):
        for refused, (why, fix) in INSTEAD.items():
            if isinstance(callback, refused):
                raise ValueError(
                    f"trainer.callbacks: found {type(callback).__name__}; expected none in a run of stages, as {why}. "
                    f"Fix: take it out, and {fix}."
                )
        if isinstance(callback, EarlyStopping):
            _check_early_stopping(trainer, callback, validates)


def _check_early_stopping(trainer: pl.Trainer, callback: EarlyStopping, validates: bool) -> None:
    """Says whether an early stopping looks at its figure before a stage is over anyhow.

    Raises:
        ValueError: it doesn't.
    """
    at_end = callback._check_on_train_epoch_end
    if at_end is None:  # as EarlyStopping itself decides it when it is set up
        at_end = trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1
    if at_end:
        raise ValueError(
            f"trainer.callbacks: found EarlyStopping on '{callback.monitor}', which would look at it when a stage is "
            "over, too late to end it; expected it to look within the stage. Fix: set trainer.val_check_interval to a "
            "number of steps, and leave check_on_train_epoch_end out."
        )
    if not validates:
        raise ValueError(
            f"trainer.callbacks: found EarlyStopping on '{callback.monitor}', which looks at it after validation, and "
            "no validation data; expected some. Fix: give data.validation a source."
        )


def check_loggers(trainer: pl.Trainer, workers: int, context: str | None) -> None:
    """Checks loggers beside data workers.

    Args:
        trainer: with its loggers.
        workers: data workers of a process.
        context: how they start; as Python has it if None.

    Raises:
        ValueError: Weights & Biases beside forked workers: what its client does when a library is first imported fails
            in them, and would seem to be a sample that can't be read.
    """
    found = any(isinstance(logger, WandbLogger) for logger in trainer.loggers)
    if found and workers and (context or get_start_method()) == "fork":
        raise ValueError(
            f"trainer.logger: found WandbLogger beside {workers} forked data workers, in which its client fails; "
            "expected workers that start anew. Fix: set data.multiprocessing_context to forkserver."
        )


def check_arguments(trainer: pl.Trainer) -> None:
    """Checks the Trainer's own arguments that say how long it trains at least.

    Raises:
        ValueError: one is set, and would put off early stopping, Ctrl-C and SIGTERM.
    """
    for name, found in (("min_steps", trainer.min_steps), ("min_epochs", trainer.min_epochs)):
        if found:
            raise ValueError(
                f"trainer.{name}: found {found}; expected none, as a stage's length is its own, and Ctrl-C and SIGTERM "
                "would be put off. Fix: set training.stages.NAME.steps, or EarlyStopping's patience."
            )


def check_validation(trainer: pl.Trainer, lengths: dict[str, int]) -> None:
    """Checks that validation can come as often as asked for in every stage.

    Args:
        trainer: with its ``val_check_interval``.
        lengths: steps by stage.

    Raises:
        ValueError: a stage is shorter than the interval, which Lightning would say when that stage begins.
    """
    interval: Any = trainer.val_check_interval
    if not isinstance(interval, int) or trainer.check_val_every_n_epoch is None:
        return
    for name, length in lengths.items():
        if length < interval:
            raise ValueError(
                f"trainer.val_check_interval: found {interval}, and stage '{name}' has {length} steps; expected at "
                "most as many. Fix: lower it, or set trainer.check_val_every_n_epoch to null, which counts on from "
                "stage to stage."
            )
