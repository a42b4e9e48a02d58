"""Confidence intervals of measured figures, by scipy."""

from __future__ import annotations

from collections.abc import Sequence

CONFIDENCE = 0.95
DRAWS = 1000
"""Bootstrap samples behind an interval."""
NUMBERS = 4_000_000
"""Scores that are drawn at once: all samples of 200,000 answers would take 3 GB."""


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
    drawn["batch"] = max(1, NUMBERS // len(scores))
    low, high = bootstrap((scores,), np.mean, confidence_level=CONFIDENCE, **drawn).confidence_interval
    return float(low), float(high)


def ratio_interval(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float]:
    """The percentiles 2.5 and 97.5 of sum over sum, over samples of pairs with replacement; 0 stands for 0 over 0."""
    import numpy as np

    pairs = np.stack([np.asarray(parts, float), np.asarray(wholes, float)])
    drawn = np.random.default_rng(0).multinomial(pairs.shape[1], np.full(pairs.shape[1], 1 / pairs.shape[1]), DRAWS)
    above, below = pairs @ drawn.T
    ratios = np.divide(above, below, out=np.zeros(DRAWS), where=below != 0)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
