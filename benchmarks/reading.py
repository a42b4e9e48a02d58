"""Data: samples a second against the bare reader, start-up over many records, the wait of a step for its batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from benchmarks.captions import MODALITIES, caption_tokens, words
from benchmarks.measuring import interleaved, now, ratio
from benchmarks.miniature import NARROW, build, write_experts
from benchmarks.report import report
from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.sampling.mixture import Mixture
from isthmus.training import LossWeights
from isthmus.training.objectives.supervised import terms_of
from isthmus.training.trainable import set_trainable

RECORDS = {"short": (10_000, 100_000), "long": (10_000, 100_000, 1_000_000)}
PROBE = """
import json, resource, sys, time
import torch, isthmus.data.batching.loader, isthmus.data.sampling.mixture
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.conversations.sources import JsonLines
def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, start = held(), time.perf_counter()
source = JsonLines(sys.argv[1])
schedule = Mixture("it", {"it": len(source)}, {"it": 1.0}, 16, epochs=1.0)
first = [source[reference.index] for reference in schedule.batch(0)]
print(json.dumps({"seconds": time.perf_counter() - start, "bytes": held() - before, "records": len(source)}))
"""


def write_records(file: Path, count: int) -> Path:
    """So many conversations about a caption, one a line."""
    import numpy as np

    generator = np.random.default_rng(0)
    lines = []
    for _ in range(1000):
        text = words(caption_tokens(MODALITIES[int(generator.integers(3))], generator), generator, NARROW.words)
        said = [{"type": "text", "text": text}]
        asked = [{"type": "text", "text": "w1 w2 w3 w4"}]
        record = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        lines.append(json.dumps(record) + "\n")
    with file.open("w", encoding="utf-8") as out:
        for start in range(0, count, 1000):
            out.writelines(lines[: count - start])
    return file


def start_up(folder: Path, counts: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """Seconds and bytes until the first batch's records are read, each in a process of its own.

    The first start of a file passes through it. Later ones find an index, where the file is large enough to have one.
    """
    rows = []
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    for count in counts:
        file = write_records(folder / f"{count}.jsonl", count)
        first, *probes = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", PROBE, str(file)],
                    check=True,
                    capture_output=True,
                    text=True,
                    env=environment,
                ).stdout
            )
            for _ in range(repetitions + 1)
        ]
        seconds = sorted(probe["seconds"] for probe in probes)[repetitions // 2]
        held = sorted(probe["bytes"] for probe in probes)[repetitions // 2]
        size = file.stat().st_size
        file.unlink()
        rows.append(
            {
                "records": count,
                "first start s": first["seconds"],
                "start-up s": seconds,
                "us a record": seconds / count * 1e6,
                "MB held": held / 1e6,
                "bytes a record": held / count,
                "held / file": held / size,
            }
        )
    return rows


def rates(folder: Path, repetitions: int, batches: int = 40, size: int = 16) -> list[dict[str, Any]]:
    """Time of our loader (parse, plan, tokenise, stack) over that of reading and parsing the same lines."""
    paths = write_experts(folder)
    model = build(paths)
    source = JsonLines(write_records(folder / "rates.jsonl", 2000))
    schedule = Mixture("it", {"it": len(source)}, {"it": 1.0}, size, steps=batches)
    with source.path.open("rb") as lines:
        offsets = [0, *accumulate(map(len, lines))]

    def bare() -> None:
        for step in range(batches):
            for reference in schedule.batch(step):
                with source.path.open("rb") as file:
                    file.seek(offsets[reference.index])
                    json.loads(file.readline())

    def ours() -> None:
        for _ in ConversationLoader(schedule, {"it": source}, model.collator()):
            pass

    seconds = interleaved({"bare reader": bare, "loader": ours}, repetitions)
    return [
        {
            "what": "loader / bare reader",
            "times": ratio(seconds["loader"], seconds["bare reader"]),
            "samples a second": batches * size / sorted(seconds["loader"])[repetitions // 2],
        }
    ]


def stall(folder: Path, steps: int = 30, size: int = 16) -> list[dict[str, Any]]:
    """The share of a stage 1 step that passes in waiting for its batch, without and with a worker."""
    paths = write_experts(folder)
    model = build(paths)
    set_trainable(model, ["signal_rows"], "it")
    source = JsonLines(write_records(folder / "stall.jsonl", 2000))
    rows = []
    for workers in (0, 1):
        schedule = Mixture("it", {"it": len(source)}, {"it": 1.0}, size, steps=steps)
        batches = iter(ConversationLoader(schedule, {"it": source}, model.collator(), workers))
        next(batches)
        waited = worked = 0.0
        for _ in range(steps - 1):
            start = now()
            batch = next(batches)
            middle = now()
            terms = terms_of(model, LossWeights(), batch)
            terms.total(LossWeights(), terms.counts()).backward()
            worked += now() - middle
            waited += middle - start
        rows.append({"what": f"input stall, {workers} workers", "share of the step": waited / (waited + worked)})
    return rows


def run(folder: Path, repetitions: int = 5, form: str = "short") -> Path:
    """All three."""
    torch.manual_seed(0)
    rows = rates(folder, repetitions) + stall(folder) + start_up(folder, RECORDS[form], min(repetitions, 3))
    return report("data", rows, repetitions=repetitions)
