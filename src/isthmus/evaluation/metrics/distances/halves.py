"""Intervals of distances between sets, which have no score for each medium, by halving both sets again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LARGEST = 2000
"""Media of a side in a half, so that tens of thousands don't take hours; intervals are then wider than needed."""
NORMAL = 1.96
"""How many standard deviations of a normal distribution hold 95 % around its mean, on each side."""


def halves_interval(
    value: float, statistic: Callable[[Array, Array], float], made: int, real: int, draws: int, seed: int
) -> tuple[float, float] | None:
    """``value`` and 1.96 standard deviations on each side; None for no draws.

    The deviation is that of the statistic over random halves of both sets. To first order a half drawn without
    replacement deviates from the whole set as much as the whole set does from the population. A bootstrap won't do: its
    repeated media shift distances between sets.
    Source: P. J. McCarthy, Review of the International Statistical Institute 37 (1969), 239-264.

    Args:
        value: on the whole sets.
        statistic: row numbers of made and of real media -> the value on these alone; a half where it is NaN is skipped.
        made: how many there are.
        real: likewise.
        draws: how many halves are drawn.
        seed: of the draws.
    """
    if draws < 2 or min(made, real) < 4:
        return None
    random = np.random.default_rng(seed)
    ours, theirs = (min(n // 2, LARGEST) for n in (made, real))
    found = [statistic(random.permutation(made)[:ours], random.permutation(real)[:theirs]) for _ in range(draws)]
    told = [one for one in found if not np.isnan(one)]
    return around(value, told) if len(told) > 1 else None


def around(value: float, found: list[float]) -> tuple[float, float]:
    """``value`` and 1.96 standard deviations of what was found on halves, on each side."""
    reach = NORMAL * float(np.std(found, ddof=1))
    return value - reach, value + reach
