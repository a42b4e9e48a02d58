"""Several streams made into one by fixed shares, so that how many each has given is known at every point.

The k-th item of a stream with share w is due at (k + 1 - u) / w, u being its own seeded phase, and items are taken in
the order in which they are due. So after n items a stream has given n w, within one or so; and where b w is a whole
number for every stream, exactly b w in each b items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from isthmus.data.sampling.seeds import derive_seed

_PHASES = 997
"""In how many parts a phase divides the wait between two items."""


class Interleaving:
    """The order in which named streams give.

    Args:
        weights: shares above 0; they needn't add up to one.
        seed: of the phases.
        key: tells this interleaving's phases from another's.
    """

    def __init__(self, weights: Mapping[str, float | Fraction], seed: int, *key: str) -> None:
        self.names = sorted(weights)
        # Whole numbers: with floats, a tie could fall one way when counted from the start, the other from the middle.
        exact = [Fraction(weights[name]).limit_denominator(1_000_000) or Fraction(1, 1_000_000) for name in self.names]
        common = math.lcm(*(share.denominator for share in exact))
        self.shares = [int(share * common) for share in exact]
        self._phases = [derive_seed(seed, *key, name, "phase") % (_PHASES - 1) + 1 for name in self.names]
        # A time in units in which every stream's items are due at whole numbers.
        unit = math.lcm(*self.shares)
        self._waits = [unit // share for share in self.shares]

    def counts(self, items: int) -> list[int]:
        """How many of the first ``items`` came from each stream."""
        # By this time fewer than `items` are due: every stream is less than one ahead of its share.
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
        """The stream whose next item is due first; of two at once, the first by name."""
        due = [
            ((count + 1) * _PHASES - phase) * wait
            for count, phase, wait in zip(counts, self._phases, self._waits, strict=True)
        ]
        return due.index(min(due))
