"""Confidence intervals of measured figures, by scipy."""

from __future__ import annotations

from collections.abc import Sequence

CONFIDENCE = 0.95
DRAWS = 1000
"""Bootstrap samples behind an interval."""


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The interval that holds the true share with probability 0.95; unlike the normal one it stays inside [0, 1].

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    from scipy.stats import binomtest

    low, high = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(low), float(high)


def bootstrap_interval(scores: Sequence[float]) -> tuple[float, float]:
    """The percentiles 2.5 and 97.5 of the mean over samples with replacement; the same for the same scores."""
    import numpy as np
    from scipy.stats import bootstrap

    if len(scores) == 1:  # scipy refuses a single one; every sample of it is that one
        return float(scores[0]), float(scores[0])
    drawn = {"n_resamples": DRAWS, "method": "percentile", "random_state": np.random.default_rng(0)}
    low, high = bootstrap((scores,), np.mean, confidence_level=CONFIDENCE, **drawn).confidence_interval
    return float(low), float(high)
