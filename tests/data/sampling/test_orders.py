"""Walks: every item once a pass, and in windows of chunks where these are asked for."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.sampling.orders import Chunks, walk

sizes = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)


@given(sizes, st.integers(1, 6), st.integers(0, 2**60))
def test_each_item_once_in_windows_of_chunks(sizes: list[int], window: int, seed: int) -> None:
    chunks = Chunks(tuple(sizes), window)
    total = sum(sizes)
    order = [walk(position, total, seed, chunks) for position in range(total)]
    assert sorted(order) == list(range(total))
    ends = list(accumulate(sizes))
    shard = [next(i for i, end in enumerate(ends) if item < end) for item in order]
    # Which chunks are open at a time: from the first of their items to the last.
    first, last = {s: shard.index(s) for s in shard}, {s: total - 1 - shard[::-1].index(s) for s in shard}
    assert max(sum(first[s] <= at <= last[s] for s in first) for at in range(total)) <= window


def test_passes_differ_and_a_window_of_all_is_any_order() -> None:
    chunks = Chunks((50, 50, 50, 50), 2)
    orders = [tuple(walk(i, 200, seed, chunks) for i in range(200)) for seed in range(3)]
    assert len(set(orders)) == 3
    assert {frozenset(item // 50 for item in order[:100]) for order in orders} != {frozenset({0, 1})}
    mixed = [walk(i, 200, 0, Chunks((50, 50, 50, 50), 4)) for i in range(50)]
    assert {item // 50 for item in mixed} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="window: found 0"):
        Chunks((1,), 0)


@given(sizes, st.data())
def test_stretches_of_some_items(sizes: list[int], data: st.DataObject) -> None:
    items = sorted(data.draw(st.sets(st.integers(0, sum(sizes) - 1))))
    parts = Chunks(tuple(sizes), 2).of(items).sizes
    begins = [0, *accumulate(sizes)]
    assert parts == tuple(sum(begins[i] <= item < begins[i + 1] for item in items) for i in range(len(sizes)))
