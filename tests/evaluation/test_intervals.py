"""Intervals against what defines them."""

from __future__ import annotations

import math
import tracemalloc
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.evaluation import intervals
from isthmus.evaluation.intervals import CONFIDENCE, DRAWS, bootstrap_interval, ratio_interval, wilson_interval


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_bounds_are_the_shares_that_a_score_test_just_accepts(counts: tuple[int, int]) -> None:
    right, n = counts
    deviate = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    low, high = wilson_interval(right, n)
    assert 0 <= low <= right / n <= high <= 1
    for bound in (low, high):
        reach = deviate * math.sqrt(bound * (1 - bound) / n)
        assert abs(bound - right / n) == pytest.approx(reach, abs=1e-9)


def test_one_score_is_its_own_interval() -> None:
    assert bootstrap_interval([0.5]) == (0.5, 0.5)


def test_many_scores_take_little_memory_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [(place * 7919 % 101) / 100 for place in range(20_000)]
    tracemalloc.start()
    found = bootstrap_interval(scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5e8, "all samples at once take 320 MB"
    monkeypatch.setattr(intervals, "NUMBERS", DRAWS * len(scores))
    assert bootstrap_interval(scores) == found


def test_a_ratio_over_equal_wholes_has_the_interval_of_a_mean() -> None:
    scores = [0.0, 1.0, 0.25, 1.0, 0.5, 0.0, 0.75, 1.0] * 5
    assert ratio_interval(scores, [1.0] * 40) == pytest.approx(bootstrap_interval(scores), abs=0.02)
    assert ratio_interval([1.0], [4.0]) == (0.25, 0.25)
    assert ratio_interval([0.0], [0.0]) == (0.0, 0.0)
