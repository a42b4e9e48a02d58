"""Weak scaling: two ranks against two processes that have nothing to do with each other, side by side.

A third pair has nothing to do with each other either, but begins each step together: what waiting alone costs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.cluster.hosts import INTERFACE, Hosts, unsupported
from benchmarks.cluster.planning import SIZES, planned
from benchmarks.cluster.stepping import ALONE, IN_STEP, ROWS, STAGE
from benchmarks.miniature import write_experts
from benchmarks.report import quieten, report
from isthmus.training.planning.cluster import volume_of

STEPS = 8
GOAL = 0.95
PORT = 29_633


def side_by_side(folder: Path, size: str, engine: str, steps: int = STEPS) -> list[dict[str, Any]]:
    """Two processes at once; what each found. Under an engine they are two ranks, each on a host of its own."""
    own = unsupported() is None
    with Hosts(2) if own else nullcontext() as hosts:
        processes = []
        for rank in range(2):
            told = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": INTERFACE if hosts is not None else "lo"}
            if engine != ALONE:
                address = "127.0.0.1" if hosts is None else hosts.addresses[0]
                told |= {"MASTER_ADDR": address, "MASTER_PORT": str(PORT), "WORLD_SIZE": "2"}
                told |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "benchmarks.cluster.stepping", str(folder), size, engine]
            command += [str(folder / f"{engine}-{rank}.json"), str(steps)]
            environment = os.environ | told
            quiet = subprocess.DEVNULL
            processes.append(
                subprocess.Popen(command, env=environment, stderr=quiet)
                if hosts is None
                else hosts.start(rank, command, env=environment, stderr=quiet)
            )
        codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"scaling: {engine}: found the exit codes {codes}; expected 0 of both. Fix: run one alone.")
    return [json.loads((folder / f"{engine}-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def rate(ranks: Sequence[dict[str, Any]]) -> float:
    """Steps a second, of both together."""
    return float(sum(len(rank["seconds"]) / sum(rank["seconds"]) for rank in ranks))


def expected(folder: Path, size: str, engine: str) -> float:
    """Bytes that a host sends in a step of two ranks, as ``isthmus plan`` counts them.

    Gloo scatters what it reduces by an all-reduce of it, which sends twice as much as a ring would.
    """
    sent = planned({name: folder / name for name in ("llama", "imagebind")}, size, engine, STAGE).sent
    return sum(
        (2 if group.kind == "reduce_scatter" else 1) * volume_of(group) * own.bytes for group, own in sent.items()
    )


def run(folder: Path, repetitions: int = 3) -> Path:
    """Pairs without an engine and with each, in turns; the batch of a process is the same in all."""
    quieten()
    size = "wide"
    write_experts(folder, SIZES[size])
    rates: dict[str, list[float]] = {ALONE: [], IN_STEP: [], "ddp": [], "fsdp2": []}
    last: dict[str, list[dict[str, Any]]] = {}
    for _ in range(repetitions):
        for engine, found in rates.items():
            last[engine] = side_by_side(folder, size, engine)
            found.append(rate(last[engine]))
            print(f"{engine}: {found[-1]:.3g} steps a second", flush=True)
    rows = []
    for engine in (IN_STEP, "ddp", "fsdp2"):
        ratios = [ours / theirs for ours, theirs in zip(rates[engine], rates[ALONE], strict=True)]
        waited = [1 - sum(rank["cpu_seconds"]) / sum(rank["seconds"]) for rank in last[engine]]
        row = {"engine": engine, "samples a second / two processes": statistics.median(ratios)}
        row |= {"lowest": min(ratios), "highest": max(ratios), "waits": statistics.mean(waited)}
        if engine != IN_STEP:
            row |= {"sent a step, MB": last[engine][0]["sent"] / 1e6}
            row |= {"formula, MB": expected(folder, size, engine) / 1e6}
        rows.append(row)
    return report("scaling", rows, repetitions=repetitions, steps=STEPS, rows_a_rank=ROWS, goal=GOAL)
