"""A stage's own way to a training loss, where it isn't the weighed sum of text, alignment and denoising."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch.distributed as distributed
from torch import Tensor

from isthmus.data.collate import Collator

if TYPE_CHECKING:
    from isthmus.model.any_to_any import AnyToAny
    from isthmus.types import Batch


@dataclass
class Outcome:
    """What a training step gives.

    Attributes:
        loss: () over the global batch, times the number of processes.
        shared: what is logged, by name; every process has all of these.
        own: what is logged and not every process has, such as figures of a modality.
    """

    loss: Tensor
    shared: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)


class Objective(ABC):
    """What a stage learns by; validation and test stay what they are.

    Attributes:
        prepares: whether its batches hold denoising targets.
        makes: whether it needs generators, if only to make media.
    """

    prepares: bool = False
    makes: bool = False

    @property
    @abstractmethod
    def collator(self) -> Callable[..., Collator]:
        """Makes its batches; takes :class:`~isthmus.data.collate.Collator`'s arguments."""

    @abstractmethod
    def step(self, model: AnyToAny, batch: Batch) -> Outcome:
        """The loss of a batch. ``model.reference`` is the model as the stage began."""


def over_processes(model: AnyToAny, counts: Tensor) -> tuple[Tensor, int]:
    """Counts of all processes together, at least 1, and how many processes there are.

    DDP averages gradients: a sum divided by a global count, times the processes, is the global batch's mean.
    """
    world = model.trainer.world_size
    if world > 1:
        distributed.all_reduce(counts)
    return counts.clamp(min=1), world
