"""Deals a global batch's conversations to processes, so that each has the same work: a pure function of the step.

What stands in a global batch doesn't depend on it, and losses are means over global batches, so neither do they.
Processes deal each for itself, so that all must come to the same on whatever machine they run: sums and products are of
whole numbers, whose order doesn't matter, and not of floats, which libraries add up in orders of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from isthmus.data.sampling.schedule import Reference, Schedule

POSITIONS = "positions"
"""The kind of load that the LLM has: its positions, and what attention adds where they are many."""
WEIGHT = 4.0
"""How much more than a kind of media positions count for: every conversation has some."""
WINDOW = 32
"""Steps over which loads are added up. A run that goes on within a window looks at it from its beginning."""

PARTS = 256
"""Of a unit of load, which are whole numbers."""

CHARACTERS_A_POSITION = 4.0
POSITIONS_A_MEDIUM = 32
LINEAR = 24_576
"""Positions from which on attention's part of a layer, in proportion to their square, is the larger one: 6 x 4096."""

Load = Mapping[str, float]
"""By kind, what a conversation will cost; kinds have no unit in common."""


def load_of(characters: int, given: Mapping[str, int], made: Mapping[str, int]) -> Load:
    """The load of a conversation of so many characters, and of so many media that are given and made in it.

    Encoders and generators take the same time for each medium of a modality, as all resize or cut, and a bridge gives
    each the same number of positions. So where the media of each modality are dealt evenly, it doesn't matter how much
    one of them costs.
    """
    positions = characters / CHARACTERS_A_POSITION + POSITIONS_A_MEDIUM * sum(given.values())
    load = {POSITIONS: positions * (1 + positions / LINEAR)}
    load |= {f"{modality} given": float(count) for modality, count in given.items()}
    return load | {f"{modality} made": float(count) for modality, count in made.items()}


class Dealer:
    """Which process takes which conversations of a step.

    Greedy: the heaviest first, each to the process that has had least of what it brings (the sum of the squares of all
    loads then grows least). Every process gets as many conversations as if they were dealt in turn.

    Args:
        schedule: gives each step's references.
        load: of a reference, found without reading media.
        world: number of processes.
    """

    def __init__(self, schedule: Schedule, load: Callable[[Reference], Load], world: int) -> None:
        self.schedule = schedule
        self.load = load
        self.world = world
        self._window = -1
        self._begin(0)

    def _begin(self, window: int) -> None:
        self._window = window
        self._dealt: list[list[int]] = []
        self._kinds: dict[str, int] = {}
        self._sums = np.zeros((self.world, 0), np.int64)

    def share(self, step: int, rank: int) -> list[Reference]:
        """A process's references of a step, in the schedule's order."""
        references = self.schedule.batch(step)
        return [own for own, taken in zip(references, self._ranks(step), strict=True) if taken == rank]

    def _ranks(self, step: int) -> list[int]:
        window, place = divmod(step, WINDOW)
        if window != self._window:
            self._begin(window)
        while len(self._dealt) <= place:
            references = self.schedule.batch(window * WINDOW + len(self._dealt))
            self._dealt.append(self._deal([self.load(reference) for reference in references]))
        return self._dealt[place]

    def _deal(self, loads: Sequence[Load]) -> list[int]:
        for kind in sorted({kind for load in loads for kind in load} - set(self._kinds)):
            self._kinds[kind] = len(self._kinds)
        costs = np.zeros((len(loads), len(self._kinds)), np.int64)
        for row, load in enumerate(loads):
            for kind, cost in load.items():
                costs[row, self._kinds[kind]] = round(cost * PARTS)
        sums = np.pad(self._sums, ((0, 0), (0, costs.shape[1] - self._sums.shape[1])))
        # As shares of what a process has by the step's end on the average. Their products stay below 2 ** 63.
        unit = (sums.sum(0) + costs.sum(0)) / (self.world * 2.0 ** (27 - self.world.bit_length()))
        unit[unit == 0] = 1
        if POSITIONS in self._kinds:
            unit[self._kinds[POSITIONS]] /= WEIGHT
        shares, held = np.rint(costs / unit).astype(np.int64), np.rint(sums / unit).astype(np.int64)
        left = np.array([len(range(rank, len(loads), self.world)) for rank in range(self.world)])
        ranks = [0] * len(loads)
        for row in np.argsort(-np.square(shares).sum(1), kind="stable").tolist():
            rank = int(np.where(left > 0, held @ shares[row], np.iinfo(np.int64).max).argmin())
            ranks[row] = rank
            left[rank] -= 1
            held[rank] += shares[row]
            sums[rank] += costs[row]
        self._sums = sums
        return ranks
