"""Plans as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from isthmus.training.planning.cluster import Cluster
from isthmus.training.planning.counted import HELD
from isthmus.training.planning.plan import StagePlan
from isthmus.training.rehearsal.report import table

GIB = 2**30


def as_json(plans: Sequence[StagePlan], notes: Sequence[str]) -> str:
    """One object."""
    return json.dumps({"plans": [plan.as_dict() for plan in plans], "notes": list(notes)}, indent=2)


def as_text(plans: Sequence[StagePlan], notes: Sequence[str]) -> str:
    """Memory of a rank, traffic and work of a step, and what the stages take; one column a stage."""
    blocks = []
    if plans:
        blocks.append(_cluster(plans[0].cluster))
        blocks.append(table([("", *(plan.stage for plan in plans)), *_lines(plans)]))
    blocks += [_fix(plan) for plan in plans if not plan.fits]
    blocks.append("\n".join(notes))
    return "\n\n".join(block for block in blocks if block)


def _cluster(own: Cluster) -> str:
    machines = f"{own.machines} machine{'s' if own.machines > 1 else ''}"
    return (
        f"{own.devices} devices of {own.memory / GIB:.0f} GiB on {machines}: {own.flops / 1e12:.0f} TFLOP/s at MFU "
        f"{own.mfu:g}, {own.overlap:.0%} of computing hides collectives, {own.headroom:.0%} of the memory stays free"
    )


def _lines(plans: Sequence[StagePlan]) -> list[tuple[str, ...]]:
    """A line a figure."""

    def line(name: str, figures: Sequence[str | None]) -> tuple[str, ...]:
        return (name, *("-" if figure is None else figure for figure in figures))

    counted = [plan.counted for plan in plans]
    lines = [line("engine", [str(plan.setting) for plan in plans])]
    lines.append(line("rows a rank (positions)", [f"{own.rows} ({own.positions:,})" for own in counted]))
    lines += [line(f"{kind}, GiB", [_gib(own.memory[kind]) for own in counted]) for kind in HELD]
    lines.append(line("peak, GiB", [_gib(own.peak) for own in counted]))
    lines.append(line("fits", [f"{'yes' if plan.fits else 'NO'}, of {_gib(plan.cluster.room)}" for plan in plans]))
    if any(own.host for own in counted):
        lines.append(line("in the host's memory, GiB a rank", [_gib(own.host) for own in counted]))
    groups = dict.fromkeys(
        (collective.kind, collective.size, plan.cluster.spread(collective))
        for plan in plans
        for collective in plan.counted.sent
    )
    for kind, size, machines in groups:
        where = f"{kind} of {size} ranks on {machines} machine{'s' if machines > 1 else ''}, GB (times)"
        lines.append(line(where, [_sent(plan, kind, size, machines) for plan in plans]))
    lines.append(line("TFLOP a step", [f"{own.work / 1e12:.1f}" for own in counted]))
    lines.append(line("step: computing, s", [f"{plan.computing:.3f}" for plan in plans]))
    lines.append(line("step: collectives alone, s", [f"{sum(plan.sending.values()):.3f}" for plan in plans]))
    lines.append(line("step: in all, s", [f"{plan.seconds:.3f}" for plan in plans]))
    lines.append(line("steps", [None if plan.steps is None else f"{plan.steps:,}" for plan in plans]))
    lines.append(line("hours", [None if plan.hours is None else f"{plan.hours:.2f}" for plan in plans]))
    if any(plan.cost is not None for plan in plans):
        lines.append(line("price", [None if plan.cost is None else f"{plan.cost:,.0f}" for plan in plans]))
    lines.append(
        line("cache on disk, GB", [None if plan.cache is None else f"{plan.cache / 1e9:.2f}" for plan in plans])
    )
    return lines


def _sent(plan: StagePlan, kind: str, size: int, machines: int) -> str | None:
    found = [
        sent
        for collective, sent in plan.counted.sent.items()
        if (collective.kind, collective.size, plan.cluster.spread(collective)) == (kind, size, machines)
    ]
    if not found:
        return None
    return f"{sum(sent.bytes for sent in found) / 1e9:.3f} ({sum(sent.count for sent in found)})"


def _fix(plan: StagePlan) -> str:
    """What would fit."""
    found = f"stage '{plan.stage}': found a peak of {_gib(plan.counted.peak)} GiB; expected {_gib(plan.cluster.room)}."
    if plan.nearest is None:
        tried = "".join(f"\n  {each}" for each in plan.tried)
        return f"{found} Fix: nothing that was tried fits; larger devices, or a smaller LLM.{tried}"
    near = plan.nearest
    return (
        f"{found} Fix: {near.setting} on {near.cluster.devices} devices: {_gib(near.counted.peak)} GiB, "
        f"{near.seconds:.3f} s a step."
    )


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"
