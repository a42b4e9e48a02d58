"""The order of a source's items: pure functions of (position, seed), without state."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from isthmus.data.sampling.seeds import derive_seed, permuted


@dataclass(frozen=True)
class Chunks:
    """Parts of a source whose items are best read close together, such as shards in a remote store.

    Each pass shuffles the chunks, takes ``window`` of them at a time, and shuffles the items within a window: like the
    shuffle buffer of a sequential reader, but with every position known in advance.

    Attributes:
        sizes: number of items in each chunk, in the order of the source.
        window: number of chunks whose items are mixed.

    Raises:
        ValueError: the window is below 1.
    """

    sizes: tuple[int, ...]
    window: int

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window: found {self.window}; expected at least 1. Fix: raise it, or leave it out.")

    def of(self, items: Sequence[int]) -> Chunks:
        """The chunks restricted to some items of the source, given in ascending order."""
        ends = list(accumulate(self.sizes))
        counts = [0] * len(ends)
        for item in items:
            counts[bisect_right(ends, item)] += 1
        return Chunks(tuple(counts), self.window)


def walk(position: int, size: int, seed: int, chunks: Chunks | None = None) -> int:
    """The item at a position of one pass, in which each of ``range(size)`` occurs once.

    Args:
        position: in the pass.
        size: number of items in the source.
        seed: of the pass.
        chunks: items that are to be close together; if None, all items are shuffled.
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
    raise AssertionError("a window holds all of its positions")


@lru_cache(maxsize=64)
def _windows(chunks: Chunks, seed: int) -> tuple[list[int], list[int], list[int]]:
    """The order of chunks, their first items in the source, and the windows' end positions in the pass."""
    count, width = len(chunks.sizes), chunks.window
    order = [permuted(place, count, derive_seed("chunks", seed)) for place in range(count)]
    starts = [0, *accumulate(chunks.sizes)][:-1]
    taken = [sum(chunks.sizes[at] for at in order[begin : begin + width]) for begin in range(0, count, width)]
    return order, starts, list(accumulate(taken))
