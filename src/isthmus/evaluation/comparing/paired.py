"""Paired tests: whether two runs' scores of the same conversations differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from isthmus.evaluation.intervals import CONFIDENCE, bootstrap_interval

MCNEMAR, PERMUTATION, STUDENT = "McNemar, exact", "paired permutation", "paired t"
SIGN_CHANGES = 4999
"""Random sign changes of a permutation test; all of them are taken where there are no more."""
MOST_PERMUTED = 1000
"""Above so many pairs the mean is normal enough for Student's test, which takes no time."""
_NUMBERS = 2_000_000
"""So many signs are drawn at once: 16 MB."""


@dataclass(frozen=True)
class PairedTest:
    """A test of two runs' scores.

    Attributes:
        n: conversations that both have scored.
        difference: the mean of the second's scores less the first's.
        interval: that holds the true difference with probability 0.95.
        p: how probable a difference at least this large is, either way, if the runs don't differ.
        method: of ``p``.
    """

    n: int
    difference: float
    interval: tuple[float, float]
    p: float
    method: str


def paired_test(first: Mapping[str, float], second: Mapping[str, float]) -> PairedTest | None:
    """Tests scores by conversation; None where no conversation has both.

    Scores of 0 and 1 alone: McNemar's exact test, and Agresti's and Min's interval, which isn't empty where all pairs
    agree (Statistics in Medicine 24 (2005), 729-740). Others: signs of the differences are changed at random (Student's
    test where there are many), and the interval is a bootstrap's. The result is the same for the same scores.
    """
    import numpy as np
    from scipy.stats import binomtest, permutation_test, ttest_1samp

    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    changes = np.array([second[name] - first[name] for name in common])
    n, mean = len(common), float(changes.mean())
    if _are_flags(first, common) and _are_flags(second, common):
        gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
        p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        return PairedTest(n, mean, _agresti_min(gained, lost, n), p, MCNEMAR)
    interval = paired_interval(changes.tolist())
    if n == 1 or not changes.any():  # no change of signs is farther from 0; scipy refuses a single pair
        return PairedTest(n, mean, interval, 1.0, PERMUTATION)
    if n > MOST_PERMUTED:
        return PairedTest(n, mean, interval, float(ttest_1samp(changes, 0.0).pvalue), STUDENT)
    drawn: dict[str, Any] = {"n_resamples": SIGN_CHANGES, "batch": max(1, _NUMBERS // n)}
    found = permutation_test(
        (changes,), np.mean, permutation_type="samples", vectorized=True, rng=np.random.default_rng(0), **drawn
    )
    return PairedTest(n, mean, interval, float(found.pvalue), PERMUTATION)


def paired_interval(changes: Sequence[float]) -> tuple[float, float]:
    """The interval of the mean of paired differences, by bootstrap."""
    return (changes[0], changes[0]) if len(set(changes)) == 1 else bootstrap_interval(changes)


def holm(values: Sequence[float]) -> list[float]:
    """Corrects p values for their number; in the same order.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70. scipy's ``false_discovery_control`` bounds
    another error, the share of false discoveries.
    """
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = least
    return corrected


def _are_flags(scores: Mapping[str, float], names: Sequence[str]) -> bool:
    return all(scores[name] in (0.0, 1.0) for name in names)


def _agresti_min(gained: int, lost: int, n: int) -> tuple[float, float]:
    """The interval of a difference of paired shares: Wald's after half a pair was added to each of the four cells."""
    from scipy.stats import norm

    more, less, total = gained + 0.5, lost + 0.5, n + 2.0
    mean = (more - less) / total
    reach = float(norm.ppf(0.5 + CONFIDENCE / 2)) * sqrt(more + less - total * mean**2) / total
    return max(-1.0, mean - reach), min(1.0, mean + reach)
