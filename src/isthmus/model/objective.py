"""A stage's own way to a training loss, where it isn't the weighed sum of text, alignment and denoising."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from isthmus.data.batching.collate import Collator
from isthmus.model.counting import counts_of, over_processes, with_late_counts
from isthmus.model.losses import Terms

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
        """Makes its batches; takes :class:`~isthmus.data.batching.collate.Collator`'s arguments."""

    @abstractmethod
    def step(self, model: AnyToAny, batch: Batch) -> Outcome:
        """The loss of a batch. ``model.reference`` is the model as the stage began.

        It is learnt in parts, as :func:`isthmus.model.micro_batches.in_turn` does it, where the stage says so.
        """


def instruction_losses(model: AnyToAny, batch: Batch | None, weight: float) -> list[Callable[[], Tensor]]:
    """What computes the stage's own losses of conversations that are learnt beside, one () for each part.

    Their sum is the loss over the global batch, times the processes.

    Args:
        model: what learns.
        batch: of this process; it may have none.
        weight: of the losses.
    """
    weights, parts, world = model.loss_weights, [] if batch is None else batch.parts, model.trainer.world_size
    counted = over_processes(model, counts_of(model, parts))
    whole: Terms | None = model(parts[0]) if parts and model.micro_batches == 1 else None
    if whole is not None:
        counts = with_late_counts(model, whole, counted())
    else:
        counts = counted()
        size = 2 * bool(weights.teaching) + bool(weights.imitation)
        if size:  # other processes count these too
            late = torch.zeros(size, dtype=torch.float64, device=model.device)
            counts = torch.cat([counts, over_processes(model, late)()])

    def loss_of(part: Batch) -> Tensor:
        terms: Terms = model(part) if whole is None else whole
        return weight * world * terms.total(weights, counts)

    return [partial(loss_of, part) for part in parts]
