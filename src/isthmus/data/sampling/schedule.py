"""The interface of schedules, which order conversations, and the sequential schedule of validation and test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from isthmus.data.sampling.seeds import derive_seed


@dataclass(frozen=True)
class Reference:
    """A conversation at a position of a stage.

    Attributes:
        source: the source's name.
        index: of the item in it.
        seed: of random numbers for it, such as denoising noise; differs from pass to pass.
        repeated: whether it only pads a batch so that every process has an item; not to be counted.
        among: items of the source that may replace it if it is bad, in ascending order; None is all.
    """

    source: str
    index: int
    seed: int
    repeated: bool = False
    among: Sequence[int] | None = field(default=None, compare=False, repr=False)


class Schedule(Protocol):
    """The conversations of each step."""

    @property
    def batch_size(self) -> int:
        """Conversations in a global batch."""

    @property
    def name(self) -> str:
        """The stage or split."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal schedules."""

    def __len__(self) -> int:
        """The number of steps."""

    def batch(self, step: int) -> list[Reference]:
        """The global batch of a step, of all processes together."""


class InOrder:
    """The schedule of validation and test: every item of every source once, in order.

    Args:
        name: the split.
        sizes: items in each source.
        batch_size: conversations in a global batch.
        seed: of what is drawn for an item.
    """

    def __init__(self, name: str, sizes: Mapping[str, int], batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"{name}: batch_size: found {batch_size}; expected at least 1. Fix: raise it.")
        self.name = name
        self.batch_size = batch_size
        self.seed = seed
        self._sizes = dict(sizes)
        self.fingerprint = f"{name}: {self._sizes}, batches of {batch_size}, seed {seed}"

    def __len__(self) -> int:
        return math.ceil(sum(self._sizes.values()) / self.batch_size)

    def batch(self, step: int) -> list[Reference]:
        """The global batch of a step; the last one may be smaller."""
        references: list[Reference] = []
        first, before = step * self.batch_size, 0
        for source, size in self._sizes.items():
            begin, end = max(first - before, 0), min(first + self.batch_size - before, size)
            references += [
                Reference(source, i, derive_seed(self.seed, self.name, source, i)) for i in range(begin, end)
            ]
            before += size
        return references
