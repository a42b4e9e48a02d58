"""In which order a source is walked: functions of (position, seed), so that nothing needs to be remembered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from isthmus.data.sampling.seeds import derive_seed, permuted


@dataclass(frozen=True)
class Stretches:
    """Parts of a source that are each best read at one time, as shards in a far store.

    A walk takes the stretches in a new order each pass, ``window`` of them at a time, and the items of a window in any
    order: the shuffle buffer of a sequential reader, but one of which every position is known.

    Attributes:
        sizes: items in each stretch, in the order of the source.
        window: how many stretches are mixed with one another.

    Raises:
        ValueError: a window below 1.
    """

    sizes: tuple[int, ...]
    window: int

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window: found {self.window}; expected at least 1. Mend: raise it, or leave it out.")

    def of(self, items: Sequence[int]) -> Stretches:
        """The same stretches of some items of the source alone, given in rising order."""
        ends = list(accumulate(self.sizes))
        counts = [0] * len(ends)
        for item in items:
            counts[bisect_right(ends, item)] += 1
        return Stretches(tuple(counts), self.window)


def walk(position: int, size: int, seed: int, stretches: Stretches | None = None) -> int:
    """Which item stands at a position of one pass: each of ``range(size)`` once.

    Args:
        position: in the pass.
        size: items in the source.
        seed: of the pass.
        stretches: which items are to be near to one another; all may be anywhere where none are given.
    """
    if stretches is None:
        return permuted(position, size, seed)
    order, starts, ends = _windows(stretches, seed)
    window = bisect_right(ends, position)
    begin = ends[window - 1] if window else 0
    place = permuted(position - begin, ends[window] - begin, derive_seed("window", seed, window))
    for stretch in order[window * stretches.window : (window + 1) * stretches.window]:
        if place < stretches.sizes[stretch]:
            return starts[stretch] + place
        place -= stretches.sizes[stretch]
    raise AssertionError("a window holds all of its places")


@lru_cache(maxsize=64)
def _windows(stretches: Stretches, seed: int) -> tuple[list[int], list[int], list[int]]:
    """The stretches' order, where each begins in the source, and where each window ends in the walk."""
    count, width = len(stretches.sizes), stretches.window
    order = [permuted(place, count, derive_seed("stretches", seed)) for place in range(count)]
    starts = [0, *accumulate(stretches.sizes)][:-1]
    taken = [sum(stretches.sizes[at] for at in order[begin : begin + width]) for begin in range(0, count, width)]
    return order, starts, list(accumulate(taken))
