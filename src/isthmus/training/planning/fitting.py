"""The nearest setting that fits: candidates with one change more at a time, each of them rehearsed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from isthmus.training.planning.cluster import Cluster
from isthmus.training.planning.counted import ACTIVATIONS
from isthmus.training.planning.plan import Setting, StagePlan
from isthmus.training.planning.rehearsing import Planner
from isthmus.training.rehearsal.trial import GRADIENTS, OPTIMIZER
from isthmus.training.stage import Stage

log = logging.getLogger(__name__)

MOST = 4096
"""Devices beyond which no candidate goes."""
GIB = 2**30
Candidate = tuple[Setting, Cluster]


def fitted(planner: Planner, name: str, stage: Stage, setting: Setting, cluster: Cluster) -> StagePlan:
    """A stage's plan; where it doesn't fit, with the nearest setting that does, if there is one.

    Candidates come in the order of what they cost: smaller micro-batches, recomputed activations, FSDP2, offloaded
    shards, more devices. What stays whatever the batch (weights, gradients, optimizer state) is known from the
    rehearsals before, so that candidates for which that alone is too much aren't rehearsed.
    """
    plan = planner.plan(name, stage, setting, cluster)
    if plan.fits:
        return plan
    least: dict[tuple[str, bool, int], float] = {}
    tried: list[str] = []
    known = plan
    for candidate, own in candidates(plan, setting, cluster, stage.batch_size or planner.batch_size):
        _note(least, known)
        kind = (candidate.engine, candidate.offload, own.devices)
        if max(least.get(kind, 0.0), _divided(plan, candidate, own)) > own.room:
            continue
        log.info("plan of stage '%s': rehearses %s on %d devices", name, candidate, own.devices)
        try:
            known = planner.plan(name, stage, candidate, own)
        except ValueError as error:
            tried.append(f"{candidate} on {own.devices} devices: refused: {error}")
            continue
        if known.fits:
            return replace(plan, nearest=known, tried=tuple(tried))
        tried.append(f"{candidate} on {own.devices} devices: {known.counted.peak / GIB:.1f} GiB")
    return replace(plan, tried=tuple(tried))


def _note(least: dict[tuple[str, bool, int], float], known: StagePlan) -> None:
    """What stays whatever the batch, under a plan's engine and devices."""
    memory, own = known.counted.memory, known.setting
    stays = memory["weights"] + memory[GRADIENTS] + memory[OPTIMIZER]
    least[(own.engine, own.offload, known.cluster.devices)] = stays


def _divided(plan: StagePlan, candidate: Setting, cluster: Cluster) -> float:
    """The least that a candidate needs which differs in nothing but its micro-batches; 0 for others."""
    parts = plan.setting.micro_batches or 1
    if replace(candidate, micro_batches=parts) != plan.setting or cluster != plan.cluster:
        return 0.0
    return plan.counted.peak - plan.counted.memory[ACTIVATIONS] * (1 - parts / (candidate.micro_batches or parts))


def candidates(plan: StagePlan, setting: Setting, cluster: Cluster, batch: int) -> Iterator[Candidate]:
    """Settings beside one that doesn't fit, nearest first.

    Args:
        plan: the one that doesn't fit.
        setting: its.
        cluster: its.
        batch: conversations of all ranks together.
    """
    parts = plan.setting.micro_batches or 1
    divided = [replace(setting, micro_batches=each) for each in _doubled(parts, plan.counted.rows)]
    smallest = (divided or [setting])[-1]
    yield from ((each, cluster) for each in divided)
    if not setting.recompute:
        yield replace(setting, recompute=True), cluster
        if divided:
            yield replace(smallest, recompute=True), cluster
    last = replace(smallest, recompute=True)
    if setting.engine == "ddp":
        for each in (setting, replace(setting, recompute=True), last):
            yield replace(each, engine="fsdp2"), cluster
    if setting.engine != "single" and not setting.offload:
        yield replace(last, engine="fsdp2", offload=True), cluster
    more = cluster.devices * 2
    if setting.engine == "single":
        more = cluster.per_machine
    while more <= min(batch, MOST):
        bigger = replace(cluster, devices=more)
        rows = -(-batch // more)
        shrunk = replace(last, engine="fsdp2", micro_batches=min(smallest.micro_batches or 1, rows))
        yield replace(shrunk, recompute=setting.recompute), bigger
        if not setting.recompute:
            yield shrunk, bigger
        more *= 2


def _doubled(parts: int, rows: int) -> list[int]:
    """Numbers of micro-batches above ``parts``, each twice the one before, up to one conversation each."""
    found = []
    while parts < rows:
        parts = min(2 * parts, rows)
        found.append(parts)
    return found
