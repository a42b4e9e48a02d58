"""In which order a source is walked: functions of (position, seed), so that nothing needs to be remembered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from isthmus.data.sampling.seeds import derive_seed, permuted


@dataclass(frozen=True)
class Chunks:
    """Parts of a source that are each best read at one time, as shards in a far store.

    A walk takes the chunks in a new order each pass, ``window`` of them at a time, and the items of a window in any
    order: the shuffle buffer of a sequential reader, but one of which every position is known.

    Attributes:
        sizes: items in each chunk, in the order of the source.
        window: how many chunks are mixed with one another.

    Raises:
        ValueError: a window below 1.
    """

    sizes: tuple[int, ...]
    window: int

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window: found {self.window}; expected at least 1. Fix: raise it, or leave it out.")

    def of(self, items: Sequence[int]) -> Chunks:
        """The same chunks of some items of the source alone, given in rising order."""
        ends = list(accumulate(self.sizes))
        counts = [0] * len(ends)
        for item in items:
            counts[bisect_right(ends, item)] += 1
        return Chunks(tuple(counts), self.window)


def walk(position: int, size: int, seed: int, chunks: Chunks | None = None) -> int:
    """Which item stands at a position of one pass: each of ``range(size)`` once.

    Args:
        position: in the pass.
        size: items in the source.
        seed: of the pass.
        chunks: which items are to be near to one another; all may be anywhere where none are given.
    """
    if chunks is None:
        return permuted(position, size, seed)
    order, starts, ends = _windows(chunks, seed)
    window = bisect_right(ends, position)
    begin = ends[window - 1] if window else 0
    place = permuted(position - begin, ends[window] - begin, derive_seed("window", seed, window))
    for chunk in order[window * chunks.window : (window + 1) * chunks.window]:
        if place < chunks.sizes[chunk]:
            return starts[chunk] + place
        place -= chunks.sizes[chunk]
    raise AssertionError("a window holds all of its places")


@lru_cache(maxsize=64)
def _windows(chunks: Chunks, seed: int) -> tuple[list[int], list[int], list[int]]:
    """The chunks' order, where each begins in the source, and where each window ends in the walk."""
    count, width = len(chunks.sizes), chunks.window
    order = [permuted(place, count, derive_seed("chunks", seed)) for place in range(count)]
    starts = [0, *accumulate(chunks.sizes)][:-1]
    taken = [sum(chunks.sizes[at] for at in order[begin : begin + width]) for begin in range(0, count, width)]
    return order, starts, list(accumulate(taken))
