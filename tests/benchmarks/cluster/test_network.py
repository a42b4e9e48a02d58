"""Latency and bandwidth are found in seconds that follow from them."""

from __future__ import annotations

import itertools

import pytest
from benchmarks.cluster.network import fit, steps, traffic

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter")


def test_a_link_is_known_by_what_crosses_it() -> None:
    latency, bandwidth = 3e-4, 2.5e7
    rows = [
        {
            "operation": operation,
            "bytes": size,
            "ranks": ranks,
            "seconds": steps(operation, ranks) * latency + traffic(operation, size, ranks) / bandwidth,
        }
        for operation, size, ranks in itertools.product(OPERATIONS, (1 << 12, 1 << 18, 1 << 24), (2, 4))
    ]
    found = fit(rows)
    assert found[:2] == (pytest.approx(latency), pytest.approx(bandwidth))
    assert found[2] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("ranks", [2, 4, 64])
def test_a_reduction_is_scattered_and_gathered(ranks: int) -> None:
    assert traffic("all_reduce", 1 << 20, ranks) == pytest.approx(2 * (ranks - 1) / ranks * (1 << 20))
    parts = [traffic(name, 1 << 20, ranks) for name in ("reduce_scatter", "all_gather")]
    assert sum(parts) == pytest.approx(traffic("all_reduce", 1 << 20, ranks))
