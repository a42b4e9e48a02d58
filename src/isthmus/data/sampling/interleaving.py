"""Interleaves streams in fixed shares, so that the number of items from each is known at every point.

The k-th item of a stream with share w is due at time (k + 1 - u) / w, where u is the stream's seeded phase, and items
are taken in the order of these times. So among the first n items about n w are from this stream; and if b w is an
integer for every stream, exactly b w among each b items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from isthmus.data.sampling.seeds import derive_seed

_PHASES = 997
"""The number of possible phases between two items."""


class Interleaving:
    """The order in which items are taken from named streams.

    Args:
        weights: shares above 0; they needn't add up to one.
        seed: of the phases.
        key: distinguishes this interleaving's phases from those of others.
    """

    def __init__(self, weights: Mapping[str, float | Fraction], seed: int, *key: str) -> None:
        self.names = sorted(weights)
        # Integers: with floats, a tie could be broken differently when counting begins in the middle.
        exact = [Fraction(weights[name]).limit_denominator(1_000_000) or Fraction(1, 1_000_000) for name in self.names]
        common = math.lcm(*(share.denominator for share in exact))
        self.shares = [int(share * common) for share in exact]
        self._phases = [derive_seed(seed, *key, name, "phase") % (_PHASES - 1) + 1 for name in self.names]
        # The unit of time in which every stream's items are due at integers.
        unit = math.lcm(*self.shares)
        self._waits = [unit // share for share in self.shares]

    def counts(self, items: int) -> list[int]:
        """How many of the first ``items`` came from each stream."""
        # At this time fewer than `items` are due, since every stream is less than one item ahead of its share.
        time, total = max(0, items - len(self.names)), sum(self.shares)
        counts = [
            (time * share * _PHASES + phase * total) // (total * _PHASES)
            for share, phase in zip(self.shares, self._phases, strict=True)
        ]
        while sum(counts) < items:
            counts[self.next(counts)] += 1
        assert sum(counts) == items
        return counts

    def next(self, counts: list[int]) -> int:
        """The stream whose next item is due first; ties go to the first by name."""
        due = [
            ((count + 1) * _PHASES - phase) * wait
            for count, phase, wait in zip(counts, self._phases, self._waits, strict=True)
        ]
        return due.index(min(due))
