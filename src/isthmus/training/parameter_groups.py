"""Which parameters an optimizer holds in which group: by part, as a stage names them, and by weight decay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from isthmus.model import AnyToAny
from isthmus.training.trainable import select_parts

log = logging.getLogger(__name__)

ALL, REST, UNDECAYED = "all", "rest", "undecayed"
ROWS = ("media_tags", "signal_rows")
"""The parts that are rows of new tokens: each is read by itself, and would fade while its token doesn't come."""


@dataclass(frozen=True)
class Group:
    """How a part learns, where that isn't as the stage's optimizer says.

    Attributes:
        lr: its learning rate at the height of the schedule; the optimizer's if None.
        weight_decay: likewise.
    """

    lr: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if self.lr is None and self.weight_decay is None:
            raise ValueError(
                "groups: found a group without lr and weight_decay; expected one. Fix: give it, or drop it."
            )
        for name, value in self.options.items():
            if value < 0:
                raise ValueError(f"groups: found {name} {value}; expected at least 0. Fix: correct it.")

    @property
    def options(self) -> dict[str, float]:
        """What the optimizer is told."""
        given = {"lr": self.lr, "weight_decay": self.weight_decay}
        return {name: value for name, value in given.items() if value is not None}


@dataclass
class Planned:
    """A group before its optimizer is made.

    Attributes:
        name: under which its learning rate is logged.
        options: what differs from the optimizer's own.
        places: its parameters, each as its part and its place there. A strategy that shards changes parameters' names
            and shapes, not their order.
    """

    name: str
    options: dict[str, float]
    places: list[tuple[str, int]] = field(default_factory=list)


def plan_groups(model: AnyToAny, trains: Sequence[str], groups: Mapping[str, Group], stage: str) -> list[Planned]:
    """The groups of what a stage trains, in the order of the model's parts.

    A part is of the group that names it most closely, and of ``rest`` if none does (of ``all`` where there are none).
    Vectors (biases, weights of norms, gates, whatever their shape) and the rows of new tokens don't decay; rows do
    where a group that names them says so.

    Raises:
        ValueError: a group names what the stage doesn't train.
    """
    chosen = select_parts(model, trains, stage)
    for name in groups:
        if not any(_covers(name, part) for part in chosen):
            raise ValueError(
                f"stage '{stage}': groups names '{name}', which it doesn't train; it trains {', '.join(chosen)}. Fix: "
                "name one of these, or a common beginning such as input_projectors."
            )
    planned: dict[str, Planned] = {}
    for part, parameters in model.parts().items():
        if part not in chosen:
            continue
        name = max((name for name in groups if _covers(name, part)), key=len, default=REST if groups else ALL)
        options = groups[name].options if name in groups else {}
        is_row = part in ROWS and not (name == part and "weight_decay" in options)
        for place, parameter in enumerate(parameters.values()):
            is_vector = sum(size > 1 for size in parameter.shape) < 2
            own = Planned(name, options)
            if is_row or is_vector:
                own = Planned(f"{name}/{UNDECAYED}", options | {"weight_decay": 0.0})
            planned.setdefault(own.name, own).places.append((part, place))
    return list(planned.values())


def _covers(name: str, part: str) -> bool:
    return part == name or part.startswith(name + ".")


def grouped(
    model: AnyToAny, make: Callable[[list[Any]], Optimizer], planned: Sequence[Planned], stage: str
) -> Optimizer:
    """The optimizer over these groups, each with its name; says in one line how they learn."""
    parts = {part: list(parameters.values()) for part, parameters in model.parts().items()}
    found: list[dict[str, Any]] = []
    for own in planned:
        parameters: list[nn.Parameter] = [parts[part][place] for part, place in own.places]
        found.append({"params": parameters, "name": own.name, **own.options})
    optimizer = make(found)
    told = [
        f"{'' if group['name'] == ALL else group['name'] + ': '}lr {group['lr']:g}, "
        f"weight decay {group.get('weight_decay', 0.0):g}"
        for group in optimizer.param_groups
        if not group["name"].endswith(f"/{UNDECAYED}")
    ]
    decay = "; vectors and rows don't decay" if len(told) < len(optimizer.param_groups) else ""
    log.info("stage '%s' learns by %s (%s%s)", stage, type(optimizer).__name__, "; ".join(told), decay)
    return optimizer
