"""Weights by temperature and by ratio, against the formula and against what a mixture gives."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.shares import weigh

SIZES = {"a": 1000, "b": 100, "c": 10}


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 10**6), min_size=1), st.floats(0.3, 50))
def test_temperature(sizes: dict[str, int], temperature: float) -> None:
    weights = weigh("stage", sizes, None, temperature)
    whole = sum(size ** (1 / temperature) for size in sizes.values())
    for source, size in sizes.items():
        assert weights[source] / sum(weights.values()) == pytest.approx(size ** (1 / temperature) / whole)


def test_by_size_is_exact_and_high_temperatures_are_nearly_equal() -> None:
    assert weigh("stage", SIZES, None) == weigh("stage", SIZES, dict.fromkeys(SIZES)) == SIZES
    even = weigh("stage", SIZES, None, 1e6)
    assert max(even.values()) / min(even.values()) == pytest.approx(1, abs=1e-4)
    # alpha = 0.3 of mT5: the smallest of three reaches 10^-0.6 of the largest's share
    assert (mt5 := weigh("stage", SIZES, None, 1 / 0.3))["c"] / mt5["a"] == pytest.approx(100**-0.3)


def test_a_ratio_of_all_beside_sources_by_size() -> None:
    weights = weigh("stage", SIZES, {"a": None, "b": None, "c": 0.2})
    assert weights == pytest.approx({"a": 0.8 * 1000 / 1100, "b": 0.8 * 100 / 1100, "c": 0.2})
    assert weigh("stage", SIZES, {"a": 3.0, "c": 0.2}) == {"a": 3.0, "c": 0.2}
    schedule = Mixture("stage", SIZES, weights, 10, steps=200)
    drawn = Counter(r.source for step in range(200) for r in schedule.batch(step))
    assert drawn["c"] == pytest.approx(400, abs=1) and drawn["a"] == pytest.approx(1600 * 1000 / 1100, abs=2)
    assert all(abs(sum(r.source == "c" for r in schedule.batch(step)) - 2) <= 1 for step in range(200))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((None, 0.0), "temperature: found 0.0"),
        ((None, float("nan")), "temperature: found nan"),
        (
            ({"a": None, "b": 0.7, "c": 0.3}, 1.0),
            r"found shares of 1 in all \(b, c\); expected them above 0",
        ),
        (({"a": None, "b": -1.0}, 1.0), "found shares of -1"),
    ],
)
def test_what_leaves_nothing_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"stage 'one': .*{said}.* Fix: "):
        weigh("stage 'one'", SIZES, *arguments)
