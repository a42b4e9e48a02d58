"""What a stage learns by: a batch -> a loss and what to log. Supervised, preference and reward are of one kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from isthmus.data.batching.collate import Collator
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.layout import on_device
from isthmus.model import AnyToAny
from isthmus.training.objectives.micro_batches import in_turn
from isthmus.training.objectives.reference import Reference
from isthmus.training.objectives.terms import LossWeights
from isthmus.types import Batch, Modality


@dataclass
class Learner:
    """A model at a stage, as an objective sees it.

    Attributes:
        model: that learns.
        weights: of the stage's supervised losses.
        micro_batches: parts that a batch is learnt from in, one after another.
        world: how many processes learn together.
        reference: the model as the stage began, where the objective compares with it.
        counts: whether what this process adds up counts; if not, its batch only keeps it in step with the others.
        before_waiting: called where this process is about to wait for others, if it is given.
        lacking: modalities of which the step's runs go into what S is standardised by.
    """

    model: AnyToAny
    weights: LossWeights = field(default_factory=LossWeights)
    micro_batches: int = 1
    world: int = 1
    reference: Reference | None = None
    counts: bool = True
    before_waiting: Callable[[], None] | None = None
    lacking: Sequence[Modality] = ()

    def over_processes(self, counts: Sequence[int]) -> Callable[[], Tensor]:
        """Begins to add up counts of all processes; what is returned gives the sums, float64.

        Only what reads the sums waits for them. Every process has to begin at the same place of its step. A strategy's
        own reduction would add a barrier.
        """
        sums = on_device(counts if self.counts else [0] * len(counts), self.model.device, torch.float64)
        work = distributed.all_reduce(sums, async_op=True) if self.world > 1 else None

        def waited() -> Tensor:
            if work is not None:
                if self.before_waiting is not None:
                    self.before_waiting()
                work.wait()
            return sums

        return waited

    def together(self, losses: Sequence[Callable[[], Tensor]], compares: bool = False) -> list[Callable[[], Tensor]]:
        """These losses, and of a sharded model as many that learn nothing as the process with most losses has more.

        Each layer is gathered by all processes together, so that all have to take the same passes: where one has no
        batch for a pass, it takes it with a few words.

        Args:
            losses: of this process; each takes one pass.
            compares: whether each takes a pass of the reference before; if not, it is a supervised one.
        """
        if not isinstance(self.model, FSDPModule):
            return list(losses)
        most = on_device([len(losses)], self.model.device, torch.int64)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return [*losses, *[partial(self._nothing, compares)] * (int(most) - len(losses))]

    def _nothing(self, compares: bool) -> Tensor:
        """A loss () of 0, with a forward and a backward pass through all layers."""
        words = tuple(Message(role, (TextItem("a"),)) for role in ("user", "assistant"))
        batch = self.model.collator()([Conversation(words)]).to(self.model.device)
        if compares:
            assert self.reference is not None, "the stage switch takes the reference"
            with self.reference(self.model):
                self.model(batch)
        keeps: list[int] | None = [] if self.weights.keeping and not compares else None
        loss: Tensor = self.model(batch, keeps=keeps).text_loss * 0
        return loss

    def in_turn(self, losses: Sequence[Callable[[], Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """See :func:`~isthmus.training.objectives.micro_batches.in_turn`."""
        divided = self.micro_batches > 1
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad] if divided else []
        return in_turn(self.model, trained, losses, divided)


Counted = tuple[Tensor, Tensor | int]
"""A sum () and what it counts: the figure is their ratio, over all processes."""


@dataclass
class Outcome:
    """What a step gives.

    Attributes:
        loss: () over the global batch, times the number of processes.
        shared: what is logged, by name: the mean over processes; every process has all of these.
        counted: what is logged, by name, and not every process has in a step, such as figures of a modality. Names are
            among :meth:`Objective.counts`.
        own: what is logged, by name, of this process alone.
    """

    loss: Tensor
    shared: dict[str, Tensor] = field(default_factory=dict)
    counted: dict[str, Counted] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)

    def figures(self) -> dict[str, Tensor]:
        """All that is logged, by name, where this is the only process."""
        return self.shared | {name: mean_of(own) for name, own in self.counted.items()} | self.own


def mean_of(counted: Counted) -> Tensor:
    """The figure () of a sum and what it counts; 0 of nothing."""
    total, count = counted
    return total / (max(count, 1) if isinstance(count, int) else count.clamp(min=1))


class Objective(ABC):
    """What a stage learns by.

    Attributes:
        mixes: whether conversations are learnt beside by the stage's supervised losses.
        dropout: whether what trains keeps its dropout. Without it, the default, policy and reference are the same
            function as long as their weights are the same.
        compares: whether it needs the model as the stage began.
    """

    mixes: bool = False
    dropout: bool = False
    compares: bool = True

    def prepares(self, weights: LossWeights) -> bool:
        """Whether its batches hold denoising targets, under these weights of the stage's supervised losses."""
        return False

    def makes(self, weights: LossWeights) -> bool:
        """Whether it needs generators, if only to make media."""
        return False

    def counts(self, model: AnyToAny) -> list[str]:
        """Names of all figures that a step may count; the same in every process."""
        return []

    @property
    def collator(self) -> Callable[..., Collator]:
        """Makes its batches; takes :class:`~isthmus.data.batching.collate.Collator`'s arguments."""
        return Collator

    @abstractmethod
    def step(self, learner: Learner, batch: Batch) -> Outcome:
        """The loss of a batch, which is learnt in parts where the stage says so."""
