"""Dealing a batch to processes: everything once, as many for each, and the same work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.sampling.dealing import WINDOW, Dealer, Load, load_of
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.schedule import Reference
from isthmus.data.sampling.seeds import derive_seed

KINDS = ("", "image", "audio", "video")


def schedule(seed: int, batch_size: int) -> Mixture:
    sizes = {"captions": 400, "words": 300, "drawn": 200}
    return Mixture("stage", sizes, {"captions": 3.0, "words": 2.0, "drawn": 1.0}, batch_size, 2 * WINDOW, seed=seed)


@cache
def load(reference: Reference) -> Load:
    """Words of very unlike lengths; media beside most of them."""
    random = np.random.default_rng(derive_seed(reference.source, reference.index))
    characters = int(np.exp(random.normal(5.5, 1.0)).clip(10, 8000))
    if reference.source == "words":
        return load_of(characters, {}, {})
    media = {str(random.choice(KINDS[1:], p=[0.6, 0.25, 0.15])): int(random.integers(1, 3))}
    return load_of(characters, *((media, {}) if reference.source == "captions" else ({}, media)))


def work(load: Load) -> list[float]:
    """FLOPs of a 7B LLM and of encoders that take unlike times and give unlike numbers of positions."""
    positions = load["positions"] + load.get("image given", 0) * 40 + load.get("video given", 0) * 90
    encoding = {"image": 0.6e12, "audio": 0.1e12, "video": 4e12}
    quadratic = 4 * 32 * 4096 * positions**2
    return [
        2 * 6.7e9 * positions + quadratic,
        sum(cost * load.get(f"{kind} given", 0) for kind, cost in encoding.items()),
    ]


@settings(max_examples=25)
@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 17), st.integers(0, WINDOW + 3))
def test_every_conversation_goes_to_one_process(seed: int, world: int, more: int, step: int) -> None:
    batches = schedule(seed, world + more)
    dealers = [Dealer(batches, load, world) for _ in range(world)]
    shares = [dealer.share(step, rank) for rank, dealer in enumerate(dealers)]
    whole = batches.batch(step)
    assert Counter(own for share in shares for own in share) == Counter(whole)
    assert [len(share) for share in shares] == [len(whole[rank::world]) for rank in range(world)]
    # It doesn't depend on what was asked for before.
    for other in (0, step + 1, 2 * WINDOW - 1, step):
        again = dealers[0].share(other, 0)
    assert again == shares[0]


def apart(dealt: Any, batches: Mixture, world: int) -> np.ndarray[Any, Any]:
    """How far the processes' work is apart, over a window: (most - least) / mean, of the LLM and of encoders."""
    sums = np.zeros((world, 2))
    for step in range(WINDOW):
        for rank in range(world):
            sums[rank] += np.sum([work(load(own)) for own in dealt(step, rank)], axis=0)
    found: np.ndarray[Any, Any] = np.ptp(sums, axis=0) / sums.mean(0)
    return found


@pytest.mark.parametrize(("world", "each"), [(2, 8), (4, 8), (8, 16)])
def test_work_is_within_five_percent_over_a_window(world: int, each: int) -> None:
    batches = schedule(0, world * each)
    dealer = Dealer(batches, load, world)
    assert max(apart(dealer.share, batches, world)) <= 0.05
    assert max(apart(lambda step, rank: batches.batch(step)[rank::world], batches, world)) > 0.08


DEALS = """
from random import Random
from isthmus.data.sampling.dealing import Dealer, load_of

class Batches:
    def batch(self, step):
        return [(step, place) for place in range(64)]

def load(reference):
    own = Random(str(reference))
    kind = own.random()
    if kind < 0.3:
        return load_of(own.choice([40, 80, 120, 333]), {}, {})
    if kind < 0.6:
        return load_of(own.choice([40, 80]), {"image": own.choice([1, 1, 2])}, {})
    return load_of(40, {"audio": 1}, {"image": 1}) if kind < 0.8 else load_of(77, {"video": 1}, {"audio": 1})

dealer = Dealer(Batches(), load, 16)
print([dealer._ranks(step) for step in range(256, 260)])
"""


def test_unlike_machines_deal_alike() -> None:
    """Kernels for unlike processors add floats up in unlike orders, and a tie is enough to deal otherwise."""
    found = [
        subprocess.run(
            [sys.executable, "-c", DEALS], env=os.environ | kernels, capture_output=True, text=True, check=True
        ).stdout
        for kernels in ({}, {"OPENBLAS_CORETYPE": "Prescott"})
    ]
    assert found[0] and found[0] == found[1]


def test_what_costs_the_same_is_dealt_in_turn() -> None:
    batches = schedule(3, 7)
    dealer = Dealer(batches, lambda _: {"of it": 1.0}, 3)
    assert [len(dealer.share(0, rank)) for rank in range(3)] == [3, 2, 2]
    assert dealer.share(0, 1) == batches.batch(0)[1::3]
