"""A callback that spoils batches as a broken decoder would: their media are no numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytorch_lightning as pl
from torch import nan

from isthmus.types import Batch


class Poison(pl.Callback):
    """Spoils the media of some steps.

    Args:
        steps: of a stage, counted from 1.
        rank: of the process whose batches are spoilt.
    """

    def __init__(self, steps: Collection[int], rank: int = 0) -> None:
        self.steps, self.rank = steps, rank

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if batch_idx + 1 in self.steps and trainer.global_rank == self.rank:
            for media in batch.media.values():
                for name, tensor in media.inputs.items():
                    if tensor.is_floating_point() and not name.endswith("count"):
                        tensor.fill_(nan)
