"""A batch dealt into parts: every sample once, in parts of about one size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.batching.samples import deal


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12), parts=st.integers(1, 15))
def test_every_sample_is_dealt_once_and_evenly(lengths: list[int], parts: int) -> None:
    dealt = deal(lengths, parts)
    assert sorted(place for part in dealt for place in part) == list(range(len(lengths)))
    assert len(dealt) == min(parts, len(lengths)) and all(dealt)
    assert all(part == sorted(part) for part in dealt)  # in the order that they came in
    sizes = [sum(lengths[place] for place in part) for part in dealt]
    assert max(sizes) - min(sizes) <= max(lengths)
