"""A stage of training, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from isthmus.earlier.options import takes_present_names
from isthmus.training.objectives.base import Objective
from isthmus.training.objectives.micro_batches import check_micro_batches
from isthmus.training.objectives.supervised import Supervised
from isthmus.training.objectives.terms import LossWeights
from isthmus.training.parameter_groups import Group

OptimizerCallable = Callable[[Iterable], Optimizer]  # type: ignore[type-arg] # the spelling that YAML is checked against


def default_optimizer(parameters: Iterable[Any]) -> Optimizer:
    """AdamW at the learning rate and weight decay of NExT-GPT's first two stages (arXiv 2309.05519, table 7)."""
    return torch.optim.AdamW(parameters, lr=4e-4, weight_decay=1e-3)


@takes_present_names
@dataclass
class Stage:
    """What a stage trains, on what, towards what and for how long.

    Attributes:
        trains: parts, such as ``lora``, ``input_projectors`` or ``output_projectors.image``; a name stands for all
            below it.
        losses: weights of the objective's terms.
        data: weights by training source, as :func:`isthmus.data.sampling.shares.weigh` takes them; by size if None.
        steps: length in optimizer updates, each of which learns a whole batch, however many micro-batches it has; or
        epochs: in passes over the mixture's sources.
        batch_size: conversations in a batch, of all processes together; the data module's if None.
        micro_batches: parts that a process learns from one after another: loss and gradients of its whole batch, in the
            memory of one part. Only dropout's draws differ. Under an objective that compares answers a part holds whole
            pairs; a group's answers are drawn together and learnt in parts.
        optimizer: made anew over what trains, so that no moment of another stage lives on. Vectors and rows of new
            tokens don't decay.
        groups: by part, named as in ``trains``, what differs from the optimizer's own: the most specific name counts.
        warmup_ratio: share of the steps over which the learning rate rises.
        lr_scheduler_type: how it falls afterwards.
        ema: share of the earlier average in an exponential moving average of what trains, at each step. The average is
            validated, saved as the stage's weights and gone on from in the next stage. None takes the last weights.
        objective: what it learns by, on training batches of its own kind; ``losses`` then are those of validation, and
            of what the objective mixes in. None is supervised learning, by ``losses``.
    """

    trains: list[str]
    losses: LossWeights = field(default_factory=LossWeights)
    data: Mapping[str, float | None] | None = None
    steps: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    micro_batches: int = 1
    optimizer: OptimizerCallable = default_optimizer
    groups: dict[str, Group] = field(default_factory=dict)
    warmup_ratio: float = 0.1
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    objective: Objective | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        if not self.trains:
            raise ValueError("stage: trains is empty, so nothing would be learnt; name at least one part")
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"stage: found steps {self.steps} and epochs {self.epochs}; give exactly one of them")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(
                f"stage: found warmup_ratio {self.warmup_ratio}; expected a share of the steps, at least 0 and below 1"
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"stage: found ema {self.ema}; expected a share, at least 0 and below 1, such as 0.99")
        if self.micro_batches < 1:
            raise ValueError(f"stage: found micro_batches {self.micro_batches}; expected at least 1")
        if self.micro_batches > 1:
            check_micro_batches(self.losses)

    @property
    def learns_by(self) -> Objective:
        """The objective."""
        return Supervised() if self.objective is None else self.objective

    def scheduler(self, length: int) -> Callable[[Optimizer], LRScheduler]:
        """The learning rate's schedule over ``length`` optimizer steps. It ends at 0 after the last one, not at it."""
        from transformers import get_scheduler

        name = "constant_with_warmup" if self.lr_scheduler_type == "constant" else self.lr_scheduler_type

        def build(optimizer: Optimizer) -> LRScheduler:
            warm = int(self.warmup_ratio * length)
            made: LRScheduler = get_scheduler(name, optimizer, num_warmup_steps=warm, num_training_steps=length)
            return made

        return build
