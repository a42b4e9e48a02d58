"""Groups rows of similar length for passes through the LLM, so that little padding is computed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

LAUNCH = {"cpu": 64}
"""The overhead of a further pass, in positions of a small LLM, by type of device."""
LAUNCH_ELSEWHERE = 4096


def launch_cost(device: torch.device, uniform: bool) -> int:
    """The overhead of a further pass, in positions; more than any pass can save where passes have to be uniform."""
    return sys.maxsize if uniform else LAUNCH.get(device.type, LAUNCH_ELSEWHERE)


@dataclass(frozen=True)
class LengthGroup:
    """Rows that run together.

    Attributes:
        rows: their indices.
        lengths: the length of each.
        firsts: the first position of each that needs a gradient; its length if there is none.
    """

    rows: list[int]
    lengths: list[int]
    firsts: list[int]

    @property
    def length(self) -> int:
        """The length of the longest row."""
        return max(self.lengths)

    @property
    def first(self) -> int:
        """The first position that needs a gradient in any row."""
        return min(self.firsts)


def length_groups(lengths: Sequence[int], firsts: Sequence[int], launch: int) -> list[LengthGroup]:
    """Splits rows into groups where the padding saved outweighs the overhead of a further pass.

    Minimises the sum over groups of (rows x (longest tail + half the longest prefix) + ``launch``), where a row's
    prefix, up to the first position that needs a gradient, has no backward pass. Rows are sorted by tail, then by
    length; dynamic programming finds the best split of this order. Without prefixes, no other grouping is better.

    Args:
        lengths: of each row.
        firsts: the first position of each row that needs a gradient.
        launch: the overhead of a pass, in positions.

    Returns:
        Groups in that order; every row is in one of them.
    """
    prefixes = [min(first, length) for first, length in zip(firsts, lengths, strict=True)]
    tails = [length - first for first, length in zip(prefixes, lengths, strict=True)]
    order = sorted(range(len(lengths)), key=lambda row: (tails[row], lengths[row]))
    # Equal rows stay together: ends[i] is the end of the i-th distinct kind of row.
    kinds = [(tails[row], lengths[row]) for row in order]
    ends = [place for place in range(1, len(order) + 1) if place == len(order) or kinds[place] != kinds[place - 1]]
    best, cut = [0], [0]
    for number, end in enumerate(ends, 1):
        costs = [0] * number
        prefix = 0
        for before in reversed(range(number)):
            start = ends[before - 1] if before else 0
            prefix = max(prefix, prefixes[order[start]])
            # Twice the cost, so that it is an integer. The last row's tail is the longest.
            costs[before] = best[before] + (end - start) * (2 * tails[order[end - 1]] + prefix) + 2 * launch
        cheapest = min(range(number), key=costs.__getitem__)
        best.append(costs[cheapest])
        cut.append(cheapest)
    groups, number = [], len(ends)
    while number:
        rows = sorted(order[ends[cut[number] - 1] if cut[number] else 0 : ends[number - 1]])
        groups.append(LengthGroup(rows, [lengths[row] for row in rows], [prefixes[row] for row in rows]))
        number = cut[number]
    return groups[::-1]
