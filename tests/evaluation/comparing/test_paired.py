"""Paired tests: known answers, scipy's own results, and that chance is called chance."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from isthmus.evaluation.comparing.paired import MCNEMAR, PERMUTATION, STUDENT, holm, paired_test


def named(values: object) -> dict[str, float]:
    return {str(number): float(value) for number, value in enumerate(np.asarray(values).tolist())}


def test_scores_of_0_and_1_take_mcnemars_exact_test() -> None:
    first = named([1] * 40 + [0] * 60)
    second = named([1] * 38 + [0] * 2 + [1] * 12 + [0] * 48)
    found = paired_test(first, second)
    assert found is not None and found.method == MCNEMAR and found.n == 100
    assert found.p == pytest.approx(binomtest(12, 14).pvalue) and found.difference == pytest.approx(0.10)
    # Agresti and Min: half a pair more in each cell, then Wald.
    mean = (12.5 - 2.5) / 102
    reach = 1.959964 * ((12.5 + 2.5) - 102 * mean**2) ** 0.5 / 102
    assert found.interval == pytest.approx((mean - reach, mean + reach), abs=1e-6)


def test_runs_that_agree_everywhere_still_have_an_interval() -> None:
    found = paired_test(named([1, 0] * 20), named([1, 0] * 20))
    assert found is not None and found.p == 1.0 and found.difference == 0.0
    assert found.interval[0] < 0 < found.interval[1]
    same = paired_test(named([0.3, 0.7]), named([0.3, 0.7]))
    assert same is not None and (same.p, same.interval) == (1.0, (0.0, 0.0))


def test_a_single_pair_shows_no_difference() -> None:
    found = paired_test({"a": 0.5}, {"a": 0.75})
    assert found is not None and (found.n, found.difference, found.p) == (1, 0.25, 1.0)


def test_few_scores_take_every_change_of_signs() -> None:
    first, changes = np.array([0.2, 0.5, 0.1, 0.9, 0.4, 0.3]), np.array([0.1, 0.05, 0.2, -0.02, 0.3, 0.15])
    found = paired_test(named(first), named(first + changes))
    sums = [abs(float(np.dot(signs, changes))) for signs in product((-1, 1), repeat=6)]
    expected = np.mean([one >= abs(changes.sum()) - 1e-12 for one in sums])
    assert found is not None and found.method == PERMUTATION and found.p == pytest.approx(expected)


@pytest.mark.parametrize(("n", "method"), [(300, PERMUTATION), (1500, STUDENT)])
def test_many_scores_agree_with_students_test(n: int, method: str) -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=n)
    second = first + rng.normal(0.02, 0.3, size=n)
    found, expected = paired_test(named(first), named(second)), ttest_rel(second, first)
    assert found is not None and found.method == method and found.p == pytest.approx(expected.pvalue, abs=0.02)
    bounds = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((bounds.low, bounds.high), abs=0.01)
    assert paired_test(named(first), named(second)) == found


def test_pairs_beat_two_intervals() -> None:
    """Each run's scores vary far more than their difference does: only pairs show it."""
    rng = np.random.default_rng(2)
    first = rng.uniform(size=100)
    found = paired_test(named(first), named(first + 0.02 + rng.normal(0, 0.01, 100)))
    assert found is not None and found.p < 0.001 and found.interval[0] > 0.01


def test_only_common_conversations_count() -> None:
    found = paired_test({"a": 0.0, "b": 1.0, "c": 1.0}, {"b": 1.0, "c": 0.0, "d": 0.0})
    assert found is not None and found.n == 2 and found.difference == -0.5
    assert paired_test({"a": 1.0}, {"b": 1.0}) is None


def test_holm_corrects_by_rank_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
