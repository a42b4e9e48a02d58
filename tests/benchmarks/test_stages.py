"""The fast step by work, never by time: FLOPs, positions and bytes, against NExT-GPT v1's step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import proportions, stages
from benchmarks.miniature import NARROW, WIDE, Size
from benchmarks.savings import Savings

from isthmus.types import Modality

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[1, 2, 3])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Row by contender of one stage, over a batch of each modality."""
    folder = tmp_path_factory.mktemp("experts")
    rows = stages.measure(request.param, folder, repetitions=0, each=stages.BATCH[request.param], size=NARROW)
    return {row["against ours"]: row for row in rows} | {"stage": request.param}


def test_ours_takes_less_work_and_memory_than_v1(found: dict[str, Any]) -> None:
    least = {1: 2.8, 2: 1.6, 3: 1.6}[found["stage"]]
    assert found["v1"]["limit by FLOPs"] >= least
    assert found["v1"]["beyond weights"] < 1


def test_every_saving_saves(found: dict[str, Any]) -> None:
    switched_off = {name for name in found if name.startswith("without ")}
    assert {"without target_logits", "without packing", "without rows_only"} <= switched_off
    for name in switched_off:
        assert found[name]["limit by FLOPs"] > 1, name
        # Batches of one modality, as stage 2 has them, hardly pad: there packing's copies cost a little memory.
        copies = name == "without packing" and found["stage"] == 2
        assert found[name]["beyond weights"] <= (1.1 if copies else 1), name


def test_checkpointing_trades_work_for_memory(found: dict[str, Any]) -> None:
    """Checkpointing runs the layers once more, and spares memory for it."""
    some, every = found["checkpointing 1 of 10"], found["checkpointing 10 of 10"]
    assert every["limit by FLOPs"] > some["limit by FLOPs"] > 1
    assert every["beyond weights"] > 1.5 and every["beyond weights"] > some["beyond weights"] > 1


def test_parts_spare_memory_for_no_more_work(found: dict[str, Any]) -> None:
    """What a part holds goes before the next comes: in every stage less than half of v1's memory beyond weights."""
    two, three = found["in 2 parts"], found["in 3 parts"]
    for parts in (two, three):
        assert parts["limit by FLOPs"] == pytest.approx(1, abs=0.1)  # rows meet in other packs, with other prefixes
    assert three["beyond weights"] > two["beyond weights"] > 1.15
    assert found["v1"]["beyond weights"] / three["beyond weights"] < 0.5


def test_cached_features_spare_the_encoder(found: dict[str, Any]) -> None:
    if found["stage"] == 2:
        pytest.skip("stage 2 takes text alone")
    spared = found["without cached_features"]["GFLOP a sample"] - found["ours"]["GFLOP a sample"]
    encoder = 2 * proportions.miniature(NARROW)["encoder"] / 1e9
    assert spared == pytest.approx(encoder, rel=0.02)


@pytest.mark.parametrize("found", [3], indirect=True)
def test_v1s_own_sets_and_a_first_epoch(found: dict[str, Any], tmp_path: Path) -> None:
    """Of v1's five sets one has pictures to encode, and three ask for a medium of a kind of their own."""
    rows = stages.measure(3, tmp_path, repetitions=0, each=4, size=NARROW, sets=True)
    own = {row["against ours"]: row for row in rows}
    assert list(own) == ["v1", "ours", "without cached_features"]
    spared = own["without cached_features"]["GFLOP a sample"] - own["ours"]["GFLOP a sample"]
    assert 0 < spared < 0.1 * (found["without cached_features"]["GFLOP a sample"] - found["ours"]["GFLOP a sample"])
    assert 1.1 < own["v1"]["limit of first epoch"] < own["v1"]["limit by FLOPs"] < found["v1"]["limit by FLOPs"]
    made = [set(batch.signals) for batch in stages.contenders(3, tmp_path, 4, NARROW, sets=True)["v1"].batches]
    assert made == [{Modality.AUDIO}, {Modality.VIDEO}, {Modality.IMAGE}, set(), set()]


def test_a_saving_changes_no_loss(tmp_path: Path) -> None:
    """Each contender learns from the same loss: savings are about how it is computed."""
    losses = {}
    for name, contender in stages.contenders(2, tmp_path, each=3, size=NARROW).items():
        if name != "v1":
            with torch.no_grad():
                losses[name] = float(sum(contender.step(batch) for batch in contender.batches))
    assert len(losses) == len(Savings.names()) + 4  # ours, all but cached features, with checkpointing, and in parts
    for name, loss in losses.items():
        assert loss == pytest.approx(losses["ours"], rel=1e-5), name


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_miniature_keeps_the_full_size_proportions(size: Size) -> None:
    full, mini = proportions.shares(proportions.full_size()), proportions.shares(proportions.miniature(size))
    assert full.keys() == mini.keys()
    for part, share in full.items():
        assert mini[part] == pytest.approx(share, rel=0.2), part
