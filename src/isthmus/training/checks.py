"""What a Trainer must not be told where stages are run, refused before the first of them begins, with the fix."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, ModelParallelStrategy, SingleDeviceStrategy

from isthmus.training.stage import Stage


def check_sharded(trainer: pl.Trainer, stage: Stage, name: str) -> None:
    """Checks a stage under a strategy that shards the model.

    Raises:
        ValueError: its objective compares with the model as the stage began, which is exchanged for the present one.
    """
    if isinstance(trainer.strategy, ModelParallelStrategy) and stage.learns_by.compares:
        raise ValueError(
            f"stage '{name}': found {type(stage.learns_by).__name__} under ModelParallelStrategy, whose shares "
            "can't be exchanged for the reference's; expected one device or DDP. Fix: take another trainer.strategy."
        )


def check_several(trainer: pl.Trainer, names: Sequence[str]) -> None:
    """Checks a run of several stages in one process.

    Raises:
        ValueError: the strategy can't hold them, or a later stage would go on with the first one's data.
    """
    if len(names) < 2:
        return
    if trainer.strategy.restore_checkpoint_after_setup:
        raise ValueError(
            f"{type(trainer.strategy).__name__} restores a checkpoint after the optimizer is made, so it can't "
            f"hold {len(names)} stages in one process: run them one by one, each with training.init_from"
        )
    interval = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]  # set by a connector
    if interval != 1:
        raise ValueError(
            f"trainer.reload_dataloaders_every_n_epochs: found {interval}; expected 1, "
            "or a later stage would go on with the first one's data"
        )


def check_accumulation(trainer: pl.Trainer) -> None:
    """Refuses a Trainer's own accumulation of batches.

    It is a mean of the batches' means, in which the tokens of a batch of few count for more than those of others.

    Raises:
        ValueError: it is on.
    """
    found = [f"trainer.accumulate_grad_batches {count}" for count in [trainer.accumulate_grad_batches] if count != 1]
    is_scheduler = [isinstance(each, GradientAccumulationScheduler) for each in trainer.callbacks]  # type: ignore[attr-defined]  # set by a connector
    found += ["the callback GradientAccumulationScheduler"] if any(is_scheduler) else []
    if found:
        raise ValueError(
            f"found {' and '.join(found)}, which would weigh the tokens of unlike batches unlike; expected none. Fix: "
            "take it out, give the stage the whole batch_size, and divide it by the stage's micro_batches: loss and "
            "gradients of the whole batch, in the memory of a part."
        )


def check_divided(trainer: pl.Trainer, stage: Stage, name: str) -> None:
    """Checks a stage that divides its batches.

    Gradients of a part bypass the strategy's hooks and the loss scaler, so both must be absent.

    Raises:
        ValueError: one of them is there.
    """
    if stage.micro_batches == 1:
        return
    strategy = trainer.strategy
    fits = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not isinstance(strategy, DeepSpeedStrategy)
    if not fits:
        raise ValueError(
            f"stage '{name}': found micro_batches under {type(strategy).__name__}, which shards what is learnt; "
            "expected one device or DDP. Fix: lower the stage's batch_size, or share it among more processes."
        )
    if trainer.precision == "16-mixed":
        raise ValueError(
            f"stage '{name}': found micro_batches under 16-mixed, whose scaled losses they'd pass by; expected "
            "32-true or bf16-mixed. Fix: set trainer.precision."
        )
