"""Endless streams of references with random access: any part can be computed without the part before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from isthmus.data.sampling.interleaving import Interleaving
from isthmus.data.sampling.orders import Chunks, walk
from isthmus.data.sampling.schedule import Reference
from isthmus.data.sampling.seeds import derive_seed


@dataclass(frozen=True)
class Walked:
    """A source, or some of its items, in passes that each hold every item once, in a new order.

    Attributes:
        source: its name.
        items: indices of its items, in ascending order.
        chunks: items that are to be close together.
        seed: of the orders.
        key: distinguishes these orders from those of other items and stages.
    """

    source: str
    items: Sequence[int]
    chunks: Chunks | None
    seed: int
    key: tuple[str, ...]

    def reference(self, ordinal: int) -> Reference:
        """The reference at index ``ordinal`` of the stream."""
        passes, position = divmod(ordinal, len(self.items))
        place = walk(position, len(self.items), derive_seed(self.seed, *self.key, passes), self.chunks)
        seed = derive_seed(self.seed, *self.key, ordinal)
        return Reference(self.source, self.items[place], seed, among=self.items)


class Mixed:
    """Several streams, interleaved by their shares.

    Args:
        walks: streams by source.
        weights: the share of each.
        seed: of the interleaving.
        key: distinguishes it from others.
    """

    def __init__(
        self, walks: Mapping[str, Walked], weights: Mapping[str, float | Fraction], seed: int, *key: str
    ) -> None:
        self.interleaving = Interleaving(weights, seed, *key)
        self.total = sum((Fraction(weight) for weight in weights.values()), Fraction(0))
        self._walks = [walks[name] for name in self.interleaving.names]

    def references(self, begin: int, count: int) -> list[Reference]:
        """References ``begin`` to ``begin + count`` of the stream."""
        counts = self.interleaving.counts(begin)
        found = []
        for _ in range(count):
            at = self.interleaving.next(counts)
            found.append(self._walks[at].reference(counts[at]))
            counts[at] += 1
        return found
