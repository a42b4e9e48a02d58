"""What a step on one rank needs, as it was counted: memory by what holds it, work by part, traffic by collective."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from isthmus.backbones.owned_state import own_share
from isthmus.model import AnyToAny
from isthmus.training.rehearsal.measuring import COLLECTIVES, GATHERED, Collective, Costs, Sent
from isthmus.training.rehearsal.trial import BATCH, GRADIENTS, OPTIMIZER, WEIGHTS
from isthmus.types import Batch

ACTIVATIONS = "activations"
HELD = ("weights", GRADIENTS, OPTIMIZER, GATHERED, COLLECTIVES, BATCH, ACTIVATIONS)
"""What fills a device's memory, as tables name it; activations are all that has no other name."""


@dataclass(frozen=True)
class Counted:
    """A step of one rank.

    Attributes:
        rows: conversations of the rank's batch.
        positions: of all of them together.
        peak: the most bytes of the device's memory at once.
        memory: these bytes by what holds them (:data:`HELD`).
        host: bytes of the host that this rank needs for offloaded shards.
        flops: by part.
        sent: by collective.
        kept: bytes that a cache keeps of a conversation's features and conditions.
    """

    rows: int
    positions: int
    peak: int
    memory: Mapping[str, int]
    host: int
    flops: Mapping[str, int]
    sent: Mapping[Collective, Sent]
    kept: float

    @property
    def work(self) -> int:
        """Floating-point operations of the step."""
        return sum(self.flops.values())


def counted(costs: Costs, batch: Batch, model: AnyToAny, offloads: bool, kept: int) -> Counted:
    """Sums up what was counted of a step.

    Args:
        costs: of the step.
        batch: of the step.
        model: after it.
        offloads: whether its shards stay in the host's memory, with their gradients and their optimizer's state.
        kept: bytes of the step's features and conditions.
    """
    layouts = [part.layout for part in batch.pieces]
    lengths = [length for layout in layouts if layout is not None for length in layout.lengths]
    memory = dict.fromkeys(HELD, 0)
    for name, size in costs.at_peak.items():
        kind = "weights" if name.startswith(WEIGHTS) else name if name in HELD else ACTIVATIONS
        memory[kind] += size
    host = 0
    if offloads:
        shards = sum(own_share(own).nbytes for own in model.parameters() if isinstance(own, DTensor))
        host = shards + memory[GRADIENTS] + memory[OPTIMIZER]
        memory |= {GRADIENTS: 0, OPTIMIZER: 0, "weights": memory["weights"] - shards}
    rows = len(lengths)
    return Counted(rows, sum(lengths), costs.peak - host, memory, host, dict(costs.flops), costs.sent, kept / rows)


@contextmanager
def kept_of(model: AnyToAny) -> Iterator[Counter[str]]:
    """Within the block, counts the bytes of features and conditions that frozen experts compute."""
    found: Counter[str] = Counter()

    def count(name: str, *tensors: Tensor | None) -> None:
        found[name] += sum(own.nbytes for own in tensors if own is not None)

    def encoded(module: Any, _: Any, features: Any) -> None:
        count("features", features.tokens, features.mask)

    encoders = [] if model.input_side is None else list(model.input_side.encoders)
    generators: list[Any] = [] if model.output_side is None else list(model.output_side.generators)
    hooks = [encoder.register_forward_hook(encoded) for encoder in encoders]
    for generator in generators:
        generator.condition = _Counting(generator.condition, count)
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for generator in generators:
            del generator.condition


class _Counting:
    """A generator's own conditioner, whose results are counted."""

    def __init__(self, condition: Any, count: Any) -> None:
        self.condition, self.count = condition, count

    def __call__(self, captions: Any) -> Any:
        found = self.condition(captions)
        self.count("conditions", found.tokens, found.mask, found.pooled)
        return found
