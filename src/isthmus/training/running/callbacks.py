"""What a run's Trainer holds: callbacks by their kind, its data."""

from __future__ import annotations

from typing import Any, TypeVar

import pytorch_lightning as pl

from isthmus.data.module import ConversationDataModule

C = TypeVar("C", bound=pl.Callback)


def callbacks_of(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    """All of this kind, in the run's order."""
    own: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
    return [each for each in own if isinstance(each, kind)]


def is_trial(trainer: pl.Trainer) -> bool:
    """Whether it takes a few batches of each stage and writes nothing."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by a connector


def data_of(trainer: pl.Trainer) -> ConversationDataModule:
    """The run's data.

    Raises:
        ValueError: it is of another class.
    """
    module: Any = getattr(trainer, "datamodule", None)
    if not isinstance(module, ConversationDataModule):
        raise ValueError(
            f"StageSwitch: found {type(module).__name__} as data; expected a ConversationDataModule of isthmus.data"
        )
    return module
