"""One rank of a timing: python -m benchmarks.cluster.collectives ADDRESS RANK WORLD FILE SIZE ...

Rank 0 writes the seconds of each collective at each size into FILE; a collective has taken as long as the rank that
waited longest for it.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed

REPETITIONS = 7
LONGEST = 2.0
"""Seconds after which a size isn't repeated again."""


def collectives(size: int, world: int) -> dict[str, Callable[[], Any]]:
    """By name, collectives of ``size`` bytes: of the tensor that is reduced, or that all shares make up together."""
    whole = torch.ones(size // 4 // world * world)
    share = torch.ones(len(whole) // world)
    return {
        "all_reduce": lambda: distributed.all_reduce(whole),
        "all_gather": lambda: distributed.all_gather_into_tensor(whole, share),
        "reduce_scatter": lambda: distributed.reduce_scatter_tensor(share, whole),
    }


def timed(work: Callable[[], Any]) -> list[float]:
    """Seconds of each repetition, the slowest rank's; the first isn't counted."""
    seconds: list[float] = []
    for repetition in range(REPETITIONS + 1):
        distributed.barrier()
        began = time.perf_counter()
        work()
        took = torch.tensor(time.perf_counter() - began, dtype=torch.float64)
        distributed.all_reduce(took, distributed.ReduceOp.MAX)
        if repetition:
            seconds.append(float(took))
        if sum(seconds) > LONGEST:
            break
    return seconds


def main() -> None:
    """The rank's part."""
    address, rank, world, file, *sizes = sys.argv[1:]
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # newer names that older releases lack
    distributed.init_process_group("gloo", f"tcp://{address}", rank=int(rank), world_size=int(world))
    rows = []
    for size in map(int, sizes):
        for name, work in collectives(size, int(world)).items():
            rows.append({"operation": name, "bytes": size, "ranks": int(world), "seconds": sorted(timed(work))})
    if distributed.get_rank() == 0:
        Path(file).write_text(json.dumps(rows), encoding="utf-8")
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
