"""A batch split into parts: every sample once, in parts of about one size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.batching.samples import split_evenly


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12), parts=st.integers(1, 15))
def test_every_sample_is_dealt_once_and_evenly(lengths: list[int], parts: int) -> None:
    groups = split_evenly(lengths, parts)
    assert sorted(place for part in groups for place in part) == list(range(len(lengths)))
    assert len(groups) == min(parts, len(lengths)) and all(groups)
    assert all(part == sorted(part) for part in groups)  # in the order that they came in
    sizes = [sum(lengths[place] for place in part) for part in groups]
    assert max(sizes) - min(sizes) <= max(lengths)
