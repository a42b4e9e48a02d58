"""``python -m benchmarks [NAME ...] [--long]``: measures, prints tables, writes JSON below ``runs/benchmarks``."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks.report import quieten

NAMES = (
    *("proportions", "stages", "lightning", "data", "generation", "growth", "serving", "serving_load", "evaluation"),
    *("network", "balance", "scaling", "sharded_loading", "planning"),
)


def main() -> None:
    """Runs the named benchmarks, one after another; all of them if none is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; all if none")
    parser.add_argument("--long", action="store_true", help="more points and more repetitions")
    parser.add_argument("--repetitions", type=int, help="of each measurement; 5, or 9 of the long form")
    parser.add_argument("--cpu-clock", action="store_true", help="count this process's CPU seconds: on a busy machine")
    chosen = parser.parse_args()
    if chosen.cpu_clock:
        os.environ["ISTHMUS_BENCHMARK_CLOCK"] = "cpu"
    if unknown := set(chosen.names) - set(NAMES):
        parser.error(f"found {', '.join(sorted(unknown))}; expected some of {', '.join(NAMES)}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    repetitions = chosen.repetitions or (9 if chosen.long else 5)
    form = "long" if chosen.long else "short"
    quieten()
    for name in chosen.names or NAMES:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            _run(name, Path(folder), repetitions, form)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)


def _run(name: str, folder: Path, repetitions: int, form: str) -> None:
    match name:
        case "proportions":
            from benchmarks import proportions

            proportions.run()
        case "stages":
            from benchmarks import stages

            stages.run(folder, repetitions, form)
        case "lightning":
            from benchmarks import lightning_loop

            lightning_loop.run(folder, repetitions)
        case "data":
            from benchmarks import reading

            reading.run(folder, repetitions, form)
        case "generation":
            from benchmarks import generation

            generation.run(folder, repetitions)
        case "growth":
            from benchmarks import growth

            growth.run(folder, repetitions, form)
        case "serving":
            from benchmarks import serving

            serving.run(min(repetitions, 3))
        case "serving_load":
            from benchmarks import serving

            serving.run_load(form)
        case "evaluation":
            from benchmarks import evaluating

            evaluating.run(folder, min(repetitions, 3))
        case "balance":
            from benchmarks.cluster import balance

            balance.run(folder)
        case "scaling":
            from benchmarks.cluster import scaling

            scaling.run(folder, repetitions)
        case "network":
            from benchmarks.cluster import network

            network.run(folder, form)
        case "sharded_loading":
            from benchmarks.cluster import loading

            loading.run(folder, form)
        case "planning":
            from benchmarks.cluster import planning

            planning.run(folder)


if __name__ == "__main__":
    main()
