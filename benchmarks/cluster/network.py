"""How long collectives take between two hosts over a shaped link, and the latency and bandwidth that say so."""

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

from benchmarks.cluster.hosts import INTERFACE, Hosts, can_delay, unsupported
from benchmarks.report import report
from isthmus.training.planning.cluster import fit_links

RATE, DELAY = "200mbit", "1ms"
SIZES = {
    "short": (1 << 12, 1 << 18, 1 << 20, 1 << 22),
    "long": (1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24),
}
PORT = 29577
PATIENCE = 300.0


def measure(file: Path, sizes: Sequence[int], per_host: int, hosts: Hosts | None) -> list[dict[str, Any]]:
    """Each collective at each size: operation, bytes, ranks, and the median of its seconds.

    Args:
        file: takes them.
        sizes: bytes of the whole tensor.
        per_host: ranks on each host.
        hosts: entered; this machine's loopback device if None.
    """
    world = 2 * per_host
    address = f"{'127.0.0.1' if hosts is None else hosts.addresses[0]}:{PORT}"
    device = "lo" if hosts is None else INTERFACE
    environment = os.environ | {"GLOO_SOCKET_IFNAME": device, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "benchmarks.cluster.collectives", address]
    ranks = []
    for rank in range(world):
        command = [*program, str(rank), str(world), str(file), *map(str, sizes)]
        place = rank // per_host
        ranks.append(
            subprocess.Popen(command, env=environment)
            if hosts is None
            else hosts.start(place, command, env=environment)
        )
    try:
        codes = [rank.wait(timeout=PATIENCE) for rank in ranks]
    finally:
        for process in ranks:
            process.kill()
    if any(codes):
        raise RuntimeError(f"network: found the exit codes {codes}; expected 0 of each rank. Fix: see their errors.")
    rows = json.loads(file.read_text(encoding="utf-8"))
    return [row | {"seconds": statistics.median(row["seconds"])} for row in rows]


def run(folder: Path, form: str) -> Path:
    """One and two ranks a host, over a link shaped by ``tc``; over loopback where there can be no namespaces."""
    missing = unsupported()
    delay = DELAY if missing is None and can_delay() else None
    link = (
        f"loopback: {missing}" if missing else f"{RATE}, {'no delay added' if delay is None else f'{delay} each way'}"
    )
    rows: list[dict[str, Any]] = []
    fits = []
    for per_host in (1, 2):
        with nullcontext() if missing else Hosts(2, RATE, delay) as hosts:
            found = measure(folder / f"{per_host}.json", SIZES[form], per_host, hosts)
        rows += found
        for operation in sorted({row["operation"] for row in found}):
            fitted = fit_links([row for row in found if row["operation"] == operation])
            fits.append(
                {
                    "operation": operation,
                    "ranks": 2 * per_host,
                    "latency, us": fitted.links[operation].latency * 1e6,
                    "bandwidth, MB/s": fitted.links[operation].bandwidth / 1e6,
                    "median error": fitted.error,
                }
            )
    report("network_fit", fits, link=link)
    return report("network", rows, link=link, hosts=2)
