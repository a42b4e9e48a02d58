"""A batch dealt into parts: every sample once, in parts of about one size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.samples import Sample, deal


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12), parts=st.integers(1, 15))
def test_every_sample_is_dealt_once_and_evenly(lengths: list[int], parts: int) -> None:
    samples = [Sample(ids=[1] * length) for length in lengths]
    dealt = deal(samples, parts)
    assert sorted(map(id, samples)) == sorted(id(sample) for part in dealt for sample in part)
    assert len(dealt) == min(parts, len(samples)) and all(dealt)
    places = {id(sample): place for place, sample in enumerate(samples)}
    for part in dealt:  # in the order that they came in
        assert [places[id(sample)] for sample in part] == sorted(places[id(sample)] for sample in part)
    sizes = [sum(len(sample.ids) for sample in part) for part in dealt]
    assert max(sizes) - min(sizes) <= max(lengths)
