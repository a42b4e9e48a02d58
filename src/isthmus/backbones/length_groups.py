"""Which rows of a batch run through the LLM together, so that little of what it computes is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LAUNCH = {"cpu": 64}
"""What a further pass costs, in positions of a small LLM, by type of device."""
LAUNCH_ELSEWHERE = 4096


@dataclass(frozen=True)
class LengthGroup:
    """Rows that run together: their numbers, the longest one's length, and the first position that learns in any."""

    rows: list[int]
    length: int
    first: int


def length_groups(lengths: Sequence[int], firsts: Sequence[int], launch: int) -> list[LengthGroup]:
    """Splits rows, sorted by length, where the padding that is saved outweighs a further pass.

    Minimises the sum over groups of (rows x longest row + ``launch``): exact, by dynamic programming over the distinct
    lengths.

    Args:
        lengths: of each row.
        firsts: of each row, the first position that a gradient has to reach.
        launch: what a pass costs besides, in positions.

    Returns:
        Groups in order of length; every row is in one of them.
    """
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    # Rows of equal length are never parted: ends[i] is where the i-th distinct length stops.
    ends = [place + 1 for place in range(len(order)) if place + 1 == len(order) or _differ(lengths, order, place)]
    best, cut = [0], [0]
    for number, end in enumerate(ends, 1):
        costs = [
            best[before] + (end - (ends[before - 1] if before else 0)) * lengths[order[end - 1]] + launch
            for before in range(number)
        ]
        cheapest = min(range(number), key=costs.__getitem__)
        best.append(costs[cheapest])
        cut.append(cheapest)
    groups, number = [], len(ends)
    while number:
        rows = order[ends[cut[number] - 1] if cut[number] else 0 : ends[number - 1]]
        groups.append(LengthGroup(rows, lengths[rows[-1]], min(firsts[row] for row in rows)))
        number = cut[number]
    return groups[::-1]


def _differ(lengths: Sequence[int], order: Sequence[int], place: int) -> bool:
    return lengths[order[place]] != lengths[order[place + 1]]
