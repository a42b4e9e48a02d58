"""Schedules: what every order of sources and steps must keep."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.schedule import InOrder, Reference
from isthmus.data.sampling.seeds import derive_seed, permuted

settings = st.integers(1, 6).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "sizes": st.lists(st.integers(1, 40), min_size=n, max_size=n),
            "weights": st.lists(st.floats(0.01, 50), min_size=n, max_size=n),
            "batch_size": st.integers(1, 9),
            "steps": st.integers(1, 40),
            "seed": st.integers(0, 5),
        }
    )
)


def mixture(name: str = "stage", **changes: Any) -> Mixture:
    sizes, weights = changes.pop("sizes"), changes.pop("weights")
    names = [f"source {i}" for i in range(len(sizes))]
    return Mixture(name, dict(zip(names, sizes, strict=True)), dict(zip(names, weights, strict=True)), **changes)


def walk(schedule: Mixture) -> list[Reference]:
    return [reference for step in range(len(schedule)) for reference in schedule.batch(step)]


@given(settings)
def test_each_item_comes_once_a_pass(setting: dict[str, Any]) -> None:
    schedule = mixture(**setting)
    by_source: dict[str, list[int]] = {}
    for step in range(len(schedule)):
        for reference in schedule.batch(step):
            by_source.setdefault(reference.source, []).append(reference.index)
    for i, size in enumerate(setting["sizes"]):
        given_items = by_source.get(f"source {i}", [])
        counts = Counter(given_items)
        assert set(counts) <= set(range(size))
        passes, rest = divmod(len(given_items), size)
        assert sorted(counts[index] for index in range(size)) == [passes] * (size - rest) + [passes + 1] * rest


@given(settings)
def test_shares_are_kept_in_every_chunk(setting: dict[str, Any]) -> None:
    schedule = mixture(**setting)
    total = sum(setting["weights"])
    shares = {f"source {i}": weight / total for i, weight in enumerate(setting["weights"])}
    seen: Counter[str] = Counter()
    for step in range(len(schedule)):
        batch = schedule.batch(step)
        assert len(batch) == setting["batch_size"]
        seen.update(reference.source for reference in batch)
        items = (step + 1) * setting["batch_size"]
        for source, share in shares.items():
            assert abs(seen[source] - share * items) <= 1 + len(shares) * share + 1e-3 * items


@given(settings, st.data())
def test_a_batch_is_a_function_of_its_step(setting: dict[str, Any], data: st.DataObject) -> None:
    whole = walk(mixture(**setting))
    step = data.draw(st.integers(0, setting["steps"] - 1))
    size = setting["batch_size"]
    assert mixture(**setting).batch(step) == whole[step * size : (step + 1) * size]


@given(settings, st.integers(1, 9))
def test_ranks_together_are_one_process(setting: dict[str, Any], world: int) -> None:
    schedule = mixture(**setting)
    for step in range(len(schedule)):
        batch = schedule.batch(step)
        parts = [batch[rank::world] for rank in range(world)]
        assert sorted(map(repr, batch)) == sorted(repr(reference) for part in parts for reference in part)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_orders_differ_by_seed_stage_and_pass() -> None:
    base: dict[str, Any] = {"sizes": [50], "weights": [1.0], "batch_size": 10, "epochs": 2}
    orders = [
        [r.index for r in walk(mixture(name, **base, seed=seed))] for name, seed in (("a", 0), ("a", 1), ("b", 0))
    ]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0][:50] != orders[0][50:] and sorted(orders[0][:50]) == sorted(orders[0][50:]) == list(range(50))
    references = walk(mixture("a", **base))
    assert len({reference.seed for reference in references}) == 100, "noise differs from pass to pass"


def test_schedules_are_the_same_on_every_machine() -> None:
    """Pinned: a change would make a run that is resumed under it see other data, and a curriculum learn otherwise."""
    schedule = mixture("alignment", sizes=[10, 7, 31], weights=[1.0, 2.5, 0.3], batch_size=5, steps=40, seed=3)
    told = repr([(r.source, r.index, r.seed) for r in walk(schedule)])
    assert blake2b(told.encode(), digest_size=8).hexdigest() == "d183859f85ea0936"


def test_ranks_get_every_source() -> None:
    """Even interleaving of two equal sources, split to two ranks as it comes, would give each rank one source."""
    schedule = mixture(sizes=[100, 100], weights=[1, 1], batch_size=8, steps=25)
    for rank in range(2):
        seen = Counter(r.source for step in range(25) for r in schedule.batch(step)[rank::2])
        assert min(seen.values()) > 30


def test_lengths() -> None:
    assert len(mixture(sizes=[10, 20], weights=[1, 2], batch_size=4, epochs=1)) == 8
    assert len(mixture(sizes=[10, 20], weights=[1, 2], batch_size=5, epochs=2)) == 12
    assert len(mixture(sizes=[100], weights=[3], batch_size=10, epochs=0.1)) == 1
    assert len(mixture(sizes=[100], weights=[3], batch_size=10, steps=77)) == 77
    epoch = walk(mixture(sizes=[10, 20], weights=[10, 20], batch_size=5, epochs=1))
    assert sorted((r.source, r.index) for r in epoch) == [
        (f"source {s}", i) for s in (0, 1) for i in range(10 * (s + 1))
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": {}}, "mixture: found no source; expected some of a, b"),
        ({"weights": {"c": 1.0}}, "mixture: found 'c'; the sources are a, b"),
        ({"weights": {"a": 0.0}}, "mixture.a: found 0.0; expected a weight above 0"),
        ({"weights": {"a": math.nan}}, "mixture.a: found nan"),
        ({"weights": {"b": 1.0}}, "source 'b': found no items"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"steps": None}, "found steps None and epochs None; expected one of them"),
        ({"epochs": 2}, "found steps 5 and epochs 2; expected one of them"),
        ({"steps": 0}, "found steps 0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_mixed_is_refused(changes: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {
        "sizes": {"a": 3, "b": 0},
        "weights": {"a": 1.0},
        "batch_size": 2,
        "steps": 5,
    } | changes
    with pytest.raises(ValueError, match="Fix: ") as caught:
        Mixture("one", **arguments)
    assert f"stage 'one': {said}" in str(caught.value)


@given(st.integers(1, 300), st.integers(0, 2**62))
def test_permutations_are_permutations(size: int, seed: int) -> None:
    assert sorted(permuted(position, size, seed) for position in range(size)) == list(range(size))


def test_permutations_are_well_mixed() -> None:
    """Each item lands anywhere alike: chi-squared over 8 places, and neighbours part."""
    counts = Counter(permuted(3, 8, seed) for seed in range(4000))
    assert sum((counts[i] - 500) ** 2 / 500 for i in range(8)) < 24.3  # p = 0.001 at 7 degrees of freedom
    order = [permuted(position, 1000, 5) for position in range(1000)]
    assert 280 < sum(abs(a - b) for a, b in pairwise(order)) / 999 < 390  # a third of 1000 if random


def test_orders_are_the_same_on_every_machine() -> None:
    """Pinned: a change would make a run that is resumed under it see other data."""
    assert derive_seed(1, "stage", 2) == 8591213958234375478
    assert [permuted(position, 10, 7) for position in range(10)] == [0, 9, 1, 5, 6, 4, 2, 8, 3, 7]
    code = "from isthmus.data.sampling.seeds import derive_seed; print(derive_seed('a', 1), derive_seed('a1'))"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1 and len(set(runs.pop().split())) == 2


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 7))
def test_in_order_gives_each_item_once(sizes: list[int], batch_size: int) -> None:
    names = {f"s{i}": size for i, size in enumerate(sizes)}
    schedule = InOrder("test", names, batch_size)
    batches = [schedule.batch(step) for step in range(len(schedule))]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert [(r.source, r.index) for batch in batches for r in batch] == [
        (n, i) for n, s in names.items() for i in range(s)
    ]
