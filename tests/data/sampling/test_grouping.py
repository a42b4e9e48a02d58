"""Modalities over batches: shares in every batch, or one to a batch, and each item still once a pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.sampling.grouping import Grouping
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.orders import Chunks

KINDS = ["text", "image", "video", "image+audio"]
labels = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.sampled_from(KINDS), min_size=1, max_size=20), min_size=1, max_size=3
)
settings = st.fixed_dictionaries(
    {"batch_size": st.integers(1, 9), "steps": st.integers(1, 30), "seed": st.integers(0, 3)}
)


def mixture(labels: dict[str, list[str]], grouping: Grouping, **changes: Any) -> Mixture:
    sizes = {source: len(of) for source, of in labels.items()}
    return Mixture("stage", sizes, {s: float(size) for s, size in sizes.items()}, grouping=grouping, **changes)


def kinds(schedule: Mixture, labels: dict[str, list[str]], step: int) -> Counter[str]:
    return Counter(labels[r.source][r.index] for r in schedule.batch(step))


@given(labels, settings, st.lists(st.integers(1, 5), min_size=4, max_size=4), st.booleans())
def test_each_batch_holds_the_shares(
    labels: dict[str, list[str]], setting: dict[str, Any], drawn: list[int], even: bool
) -> None:
    held = sorted({label for of in labels.values() for label in of})
    shares = dict.fromkeys(held, 1) if even else dict(zip(held, drawn, strict=False))
    schedule = mixture(labels, Grouping("balanced", labels, None if even else shares), **setting)
    exact = {label: setting["batch_size"] * share / sum(shares.values()) for label, share in shares.items()}
    # Shares that come to whole conversations are met to the item; others are rounded.
    slack = 0 if all(share == round(share) for share in exact.values()) else 1 + len(held) / 2
    for step in range(len(schedule)):
        found = kinds(schedule, labels, step)
        assert found.total() == setting["batch_size"]
        assert all(abs(found[label] - exact[label]) <= slack for label in held)


@given(labels, settings)
def test_homogeneous_batches_hold_one(labels: dict[str, list[str]], setting: dict[str, Any]) -> None:
    schedule = mixture(labels, Grouping("homogeneous", labels), **setting)
    batches = [kinds(schedule, labels, step) for step in range(len(schedule))]
    assert all(len(batch) == 1 for batch in batches)
    turns = Counter(label for batch in batches for label in batch)
    sizes = Counter(label for of in labels.values() for label in of)
    for label, size in sizes.items():
        assert abs(turns[label] - len(batches) * size / sizes.total()) <= 2


@given(labels, settings, st.sampled_from(["balanced", "homogeneous"]), st.integers(1, 3), st.data())
def test_each_item_once_a_pass_and_each_step_by_itself(
    labels: dict[str, list[str]], setting: dict[str, Any], kind: Any, window: int, data: st.DataObject
) -> None:
    cuts = {source: len(of) // 2 for source, of in labels.items()}
    near = {source: Chunks((cut, len(labels[source]) - cut), window) for source, cut in cuts.items()}
    schedule = mixture(labels, Grouping(kind, labels), chunks=near, **setting)
    counts = Counter((r.source, r.index) for step in range(len(schedule)) for r in schedule.batch(step))
    for source, of in labels.items():
        for label in set(of):
            own = [counts[source, i] for i, other in enumerate(of) if other == label]
            assert max(own) - min(own) <= 1
    step = data.draw(st.integers(0, setting["steps"] - 1))
    again = mixture(labels, Grouping(kind, labels), chunks=near, **setting)
    assert again.batch(step) == schedule.batch(step) and again.fingerprint == schedule.fingerprint


def test_fingerprints_tell_schedules_apart() -> None:
    labels = {"a": ["text", "image"] * 4}
    setting = {"batch_size": 2, "steps": 3}
    plain = Mixture("stage", {"a": 8}, {"a": 8.0}, 2, 3)
    near = Mixture("stage", {"a": 8}, {"a": 8.0}, 2, 3, chunks={"a": Chunks((4, 4), 1)})
    others = [
        mixture(labels, Grouping("balanced", labels), **setting),
        mixture(labels, Grouping("homogeneous", labels), **setting),
        mixture(labels, Grouping("balanced", labels, {"text": 1, "image": 3}), **setting),
    ]
    assert len({schedule.fingerprint for schedule in (plain, near, *others)}) == 5


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"text": 1.0}, "modality_shares: found none of 'image'; the sources hold image, text"),
        ({"text": 1.0, "image": 0.0}, "modality_shares.image: found 0.0"),
        ({"text": 1.0, "image": 1.0, "smell": 1.0}, "modality_shares.smell: found 1.0; expected .* one of image, text"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares: dict[str, float], said: str) -> None:
    labels = {"a": ["text", "image"]}
    with pytest.raises(ValueError, match=f"stage 'stage': {said}.* Fix: "):
        mixture(labels, Grouping("balanced", labels, shares), batch_size=2, steps=3)
