"""A run's callbacks by their kind."""

from __future__ import annotations

from typing import TypeVar

import pytorch_lightning as pl

C = TypeVar("C", bound=pl.Callback)


def callbacks_of(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    """All of this kind, in the run's order."""
    own: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
    return [each for each in own if isinstance(each, kind)]
