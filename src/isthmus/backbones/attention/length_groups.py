"""Which rows of a batch run through the LLM together, so that little of what it computes is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LAUNCH = {"cpu": 64}
"""What a further pass costs, in positions of a small LLM, by type of device."""
LAUNCH_ELSEWHERE = 4096


@dataclass(frozen=True)
class LengthGroup:
    """Rows that run together.

    Attributes:
        rows: their numbers.
        lengths: of each of them.
        firsts: of each of them, the first position that learns, its length at most.
    """

    rows: list[int]
    lengths: list[int]
    firsts: list[int]

    @property
    def length(self) -> int:
        """The longest one's length."""
        return max(self.lengths)

    @property
    def first(self) -> int:
        """The first position that learns in any."""
        return min(self.firsts)


def length_groups(lengths: Sequence[int], firsts: Sequence[int], launch: int) -> list[LengthGroup]:
    """Splits rows where the padding that is saved outweighs a further pass.

    Minimises the sum over groups of (rows x (longest tail + half the longest prefix) + ``launch``), where a row's
    prefix, up to the first position that learns, has no backward pass. Rows are sorted by tail, then by length; among
    the splits of this order the best is found by dynamic programming. Where every row learns from its start on, it is
    the best of all.

    Args:
        lengths: of each row.
        firsts: of each row, the first position that a gradient has to reach.
        launch: what a pass costs besides, in positions.

    Returns:
        Groups in that order; every row is in one of them.
    """
    reached = [min(first, length) for first, length in zip(firsts, lengths, strict=True)]
    tails = [length - first for first, length in zip(reached, lengths, strict=True)]
    order = sorted(range(len(lengths)), key=lambda row: (tails[row], lengths[row]))
    # Alike rows are never parted: ends[i] is where the i-th distinct kind of row stops.
    kinds = [(tails[row], lengths[row]) for row in order]
    ends = [place for place in range(1, len(order) + 1) if place == len(order) or kinds[place] != kinds[place - 1]]
    best, cut = [0], [0]
    for number, end in enumerate(ends, 1):
        costs = [0] * number
        prefix = 0
        for before in reversed(range(number)):
            start = ends[before - 1] if before else 0
            prefix = max(prefix, reached[order[start]])
            # Twice the cost, so that it stays a whole number. The last row's tail is the longest.
            costs[before] = best[before] + (end - start) * (2 * tails[order[end - 1]] + prefix) + 2 * launch
        cheapest = min(range(number), key=costs.__getitem__)
        best.append(costs[cheapest])
        cut.append(cheapest)
    groups, number = [], len(ends)
    while number:
        rows = sorted(order[ends[cut[number] - 1] if cut[number] else 0 : ends[number - 1]])
        groups.append(LengthGroup(rows, [lengths[row] for row in rows], [reached[row] for row in rows]))
        number = cut[number]
    return groups[::-1]
