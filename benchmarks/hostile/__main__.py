"""``python -m benchmarks.hostile --model RUN --requests 5000``: hostile requests against a server of that model.

Damaged media of every type, huge declared sizes, decompression bombs, names that lead out of folders, private
addresses, malformed JSON, header floods, what is no HTTP, and slow clients. Exits with 1 if an answer is a 5xx or has
another form than errors have, a connection hangs, the good request after each hundred isn't answered as at first, or
the server keeps memory, descriptors, processes or files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.hostile.running import Result, run
from benchmarks.report import report

GROWTH = 1.05
"""How much memory may grow from a fifth of the requests on."""
ENOUGH = 2000
"""Requests from which on memory is judged: before, allocators still grow."""


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a trained model's folder")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    result = run(chosen.model, chosen.requests, chosen.seed)
    warm, last = result.held[len(result.held) // 5], result.held[-1]
    if chosen.requests >= ENOUGH and last.memory > GROWTH * warm.memory:
        result.faults.append(f"memory grew from {warm.memory:.0f} to {last.memory:.0f} MB")
    _told(result)
    sys.exit(1 if result.faults else 0)


def _told(result: Result) -> None:
    held = [
        {"after": min(at * 100, len(result.outcomes)), **vars(found)}
        for at, found in enumerate(result.held)
        if at in (0, len(result.held) // 5, len(result.held) // 2, len(result.held) - 1)
    ]
    seconds = sorted(result.seconds)
    report("hostile", result.rows(), faults=len(result.faults), good=len(seconds), median_s=seconds[len(seconds) // 2])
    report("hostile_held", held)
    for fault in result.faults:
        print(fault)


if __name__ == "__main__":
    main()
