"""How sure a share of right answers is."""

from __future__ import annotations

from math import sqrt

CONFIDENCE = 0.95
_DEVIATES = 1.959963984540054
"""The normal deviate that leaves (1 - CONFIDENCE) / 2 above it."""


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The interval that holds the true share with probability 0.95; unlike the normal one it stays inside [0, 1].

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    assert 0 <= right <= n and n > 0
    share, z2 = right / n, _DEVIATES**2
    middle = share + z2 / (2 * n)
    reach = _DEVIATES * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    # At 0 and n of n the bounds are 0 and 1 exactly; rounding would leave them a hair beside.
    low = 0.0 if right == 0 else (middle - reach) / scale
    high = 1.0 if right == n else (middle + reach) / scale
    return low, high
