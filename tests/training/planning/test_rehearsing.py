"""A step rehearsed as rank 0 of many: what it holds, what it sends, and what two real processes measure of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
from forked import run
from tiny_world import tiny_experts
from torch.distributed.fsdp._fully_shard import _fsdp_param
from training.planning.planned_steps import (
    BATCH,
    STAGE,
    WORDS,
    configured,
    counted_on,
    model_of,
    planner,
    without_weights,
)

from isthmus.training import Stage
from isthmus.training.engines.units import FrozenSharding
from isthmus.training.planning import Cluster, Link, Planner, Setting, StagePlan, ranks
from isthmus.training.planning.fitting import candidates, fitted
from isthmus.training.planning.plan import Engine
from isthmus.training.planning.rehearsing import check
from isthmus.training.trainable import set_trainable

Planned = Callable[..., StagePlan]
FEW = 400
"""Bytes of the counts and figures that ranks add up in a step, at the most."""
SCRIPT = Path(__file__).with_name("planned_steps.py")


def cluster(devices: int, memory: float = 2**40) -> Cluster:
    return Cluster(devices, 4, memory, 1e12, Link(1e-6, 1e9), Link(1e-5, 1e9), headroom=0.0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """The plan of a setting, each once, of experts without weights."""
    bare = without_weights(tiny_experts(tmp_path_factory.mktemp("bare")))

    @cache
    def make(engine: Engine, devices: int, frozen: FrozenSharding = "replicate") -> StagePlan:
        return planner(bare).plan("stage", STAGE, Setting(engine, frozen=frozen), cluster(devices))

    return make


def sent(plan: StagePlan) -> dict[str, tuple[int, int]]:
    """By collective how often it runs and its bytes; without what is only counts and figures that ranks add up."""
    found = plan.counted.sent.items()
    return {own.kind: (each.count, each.bytes) for own, each in found if each.bytes > FEW}


def trained_bytes(paths: Mapping[str, Path]) -> int:
    model = model_of(paths)
    model.configure_model()
    set_trainable(model, STAGE.trains, "stage")
    return sum(own.nbytes for own in model.parameters() if own.requires_grad)


@pytest.mark.slow
def test_parts_make_up_the_peak_and_the_group_is_gone(planned: Planned) -> None:
    for setting in (("ddp", 2), ("fsdp2", 2)):
        plan = planned(*setting)
        assert sum(plan.counted.memory.values()) == plan.counted.peak > 0 and plan.counted.rows == 4
        assert plan.counted.memory["optimizer state"] > 0 and plan.counted.work > 0
    assert planned("fsdp2", 2).counted.memory["gathered layers"] > 0
    assert not distributed.is_initialized()


@pytest.mark.slow
def test_shares_shrink_with_ranks(planned: Planned) -> None:
    whole, few, many = (planned(*own).counted.memory for own in (("ddp", 2), ("fsdp2", 2), ("fsdp2", 8)))
    assert many["weights"] < few["weights"] < whole["weights"]
    assert many["optimizer state"] < few["optimizer state"] < whole["optimizer state"]
    assert planned("fsdp2", 8, "root").counted.memory["weights"] < many["weights"]  # the encoder in shards too
    assert many["gathered layers"] == pytest.approx(few["gathered layers"], rel=0.1)  # a layer whole, however many


@pytest.mark.parametrize("size", [1, 3, 64, 100])
@pytest.mark.parametrize("dim", [0, 1])
def test_rank_0_has_fsdp2s_own_chunk(size: int, dim: int) -> None:
    tensor = torch.arange(2.0 * size).view((size, 2) if dim == 0 else (2, size))
    for devices in (2, 3, 64, 1024):
        expected, *_ = _fsdp_param._chunk_with_empty(tensor, devices, dim)
        with ranks.first_chunks():
            (found,) = _fsdp_param._chunk_with_empty(tensor, devices, dim)
        assert torch.equal(found, expected)


@pytest.mark.slow
def test_ddp_sends_what_trains_once(planned: Planned, paths: dict[str, Path]) -> None:
    (_, size), *others = sent(planned("ddp", 2)).values()
    assert trained_bytes(paths) <= size < trained_bytes(paths) + FEW and not others


@pytest.mark.slow
def test_fsdp2_gathers_each_layer_twice_and_scatters_its_gradients_once(planned: Planned) -> None:
    """The LLM has two layers; the root unit around them is gathered once, as it stays whole until its gradients."""
    layers = 2
    few, many = sent(planned("fsdp2", 2)), sent(planned("fsdp2", 8))
    assert few["all_gather"][0] == many["all_gather"][0] == 2 * layers + 1
    assert few["reduce_scatter"][0] == many["reduce_scatter"][0] == layers + 1
    assert many["all_gather"][1] == pytest.approx(few["all_gather"][1], rel=0.1)  # padding aside


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_two_processes_measure_what_is_planned(
    engine: str, planned: Planned, paths: dict[str, Path], tmp_path: Path
) -> None:
    run(SCRIPT, str(paths["llama"].parent), str(tmp_path / "found.json"), engine, ranks=2)
    real, plan = json.loads((tmp_path / "found.json").read_text()), counted_on(planned(engine, 2).counted)
    assert plan["flops"] == real["flops"] and plan["rows"] == real["rows"]
    # Once, in the second step, DDP tells all ranks the order in which it fills its buckets from now on.
    assert plan["sent"] == [own for own in real["sent"] if own[0] != "broadcast"]
    assert plan["peak"] == pytest.approx(real["peak"], rel=0.05)
    for kind in ("weights", "optimizer state"):
        assert plan["memory"][kind] == pytest.approx(real["memory"][kind], rel=0.01), kind


class Once(Planner):
    """Rehearses each setting once on each number of devices, whatever their memory."""

    def plan(self, name: str, stage: Stage, setting: Setting, cluster: Cluster) -> StagePlan:
        kept: dict[Any, StagePlan | ValueError] = self.__dict__.setdefault("kept", {})
        key = setting, cluster.devices
        if key not in kept:
            try:
                kept[key] = super().plan(name, stage, setting, cluster)
            except ValueError as error:
                kept[key] = error
        found = kept[key]
        if isinstance(found, ValueError):
            raise found
        return replace(found, cluster=cluster)


@pytest.mark.slow
def test_what_doesnt_fit_names_the_first_that_does(tmp_path: Path) -> None:
    """Of every kind of change: to each candidate that needs less than all before it, room for just that is given."""
    bare = without_weights(tiny_experts(tmp_path))
    once = Once(lambda: model_of(bare), configured(), BATCH, WORDS)
    plenty, setting = cluster(2), Setting("ddp")
    plan = once.plan("stage", STAGE, setting, plenty)
    tried = list(candidates(plan, setting, plenty, BATCH))
    least, kinds = plan.counted.peak, set()
    for candidate, own in tried:
        needed = once.plan("stage", STAGE, candidate, own)
        peak = needed.counted.peak
        if peak >= least:
            continue
        least = peak
        fits = fitted(once, "stage", STAGE, setting, cluster(2, peak))
        assert not fits.fits and fits.nearest is not None and fits.nearest.fits
        assert fits.nearest.setting == needed.setting and fits.nearest.cluster.devices == own.devices
        kinds |= {"parts"} if (candidate.micro_batches or 1) > 1 else set()
        kinds |= {name for name in ("recompute", "offload") if getattr(candidate, name)}
        kinds |= {candidate.engine, own.devices}
    assert kinds == {"parts", "recompute", "offload", "ddp", "fsdp2", 2, 8}  # 4 devices need more than 2 that offload
    nothing = fitted(once, "stage", STAGE, setting, cluster(2, 1))
    assert nothing.nearest is None and not nothing.fits


@pytest.mark.parametrize(
    ("setting", "devices", "batch", "said"),
    [
        (Setting("ddp"), 16, 8, "found a batch of 8 for 16 devices"),
        (Setting("ddp"), 6, 8, "found 6 devices on machines of 4"),
        (Setting("single"), 2, 8, "found engine single with 2 devices"),
        (Setting("fsdp2"), 1, 8, "found engine fsdp2 with 1 devices"),
        (Setting("ddp", offload=True), 2, 8, "found offloaded shards"),
        (Setting("ddp", micro_batches=5), 2, 8, "found 5 micro-batches of 4 conversations a rank"),
    ],
)
def test_what_no_cluster_can_run_is_refused(setting: Setting, devices: int, batch: int, said: str) -> None:
    with pytest.raises(ValueError, match=rf"{said}.*expected.*Fix: "):
        check("stage", setting, cluster(devices), batch)
