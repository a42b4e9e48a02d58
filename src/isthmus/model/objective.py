"""A stage's own way to a training loss, where it isn't the weighed sum of text, alignment and denoising."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.distributed as distributed
from torch import Tensor

from isthmus.data.collate import Collator
from isthmus.model.losses import Terms
from isthmus.model.micro_batches import counts_of

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
        mixes: whether conversations are learnt beside by the stage's own losses.
        dropout: whether what trains keeps its dropout. Without it, the default, policy and reference are the same
            function as long as their weights are the same.
    """

    prepares: bool = False
    makes: bool = False
    mixes: bool = False
    dropout: bool = False

    @property
    @abstractmethod
    def collator(self) -> Callable[..., Collator]:
        """Makes its batches; takes :class:`~isthmus.data.collate.Collator`'s arguments."""

    @abstractmethod
    def step(self, model: AnyToAny, batch: Batch) -> Outcome:
        """The loss of a batch. ``model.reference`` is the model as the stage began.

        It is learnt in parts, as :func:`isthmus.model.micro_batches.in_turn` does it, where the stage says so.
        """


def over_processes(model: AnyToAny, counts: Tensor) -> tuple[Tensor, int]:
    """Counts of all processes together, at least 1, and how many processes there are.

    DDP averages gradients: a sum divided by a global count, times the processes, is the global batch's mean.
    """
    world = model.trainer.world_size
    if world > 1:
        distributed.all_reduce(counts)
    return counts.clamp(min=1), world


def instruction_losses(model: AnyToAny, batch: Batch | None, weight: float) -> list[Callable[[], Tensor]]:
    """What computes the stage's own losses of conversations that are learnt beside, one () for each part.

    Their sum is the loss over the global batch, times the processes.

    Args:
        model: what learns.
        batch: of this process; it may have none.
        weight: of the losses.
    """
    weights, parts = model.loss_weights, [] if batch is None else batch.parts
    whole: Terms | None = model(parts[0]) if parts and model.micro_batches == 1 else None
    if whole is not None:
        counts = whole.counts()
    elif parts:
        counts = counts_of(model, parts)
    else:
        size = 3 + 2 * bool(weights.teaching) + bool(weights.imitation)
        counts = torch.zeros(size, dtype=torch.float64, device=model.device)
    counts, world = over_processes(model, counts)

    def loss_of(part: Batch) -> Tensor:
        terms: Terms = model(part) if whole is None else whole
        return weight * world * terms.total(weights, counts)

    return [partial(loss_of, part) for part in parts]
