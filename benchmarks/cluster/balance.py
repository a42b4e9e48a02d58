"""How far processes' work is apart over a mixed set, dealt in turn and dealt by cost, and what the dealing takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.sampling.dealing import WINDOW, Dealer
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.sampling.schedule import Reference

RECORDS = 2_000
MEDIA = {"image": (0.45, 1, 0.91e12), "audio": (0.15, 1, 0.27e12), "video": (0.1, 1, 3.6e12)}
"""Share of the conversations, positions and FLOPs of ImageBind-huge for one medium, two a multiply-add."""
PARAMETERS, WIDTH, LAYERS = 6.6e9, 4096, 32
"""Of Vicuna-7B."""


def write(path: Path) -> list[tuple[float, float]]:
    """Conversations whose words are as unlike in length as those of instruction sets; LLM's and encoders' FLOPs."""
    random = np.random.default_rng(0)
    work = []
    with path.open("w", encoding="utf-8") as file:
        for _ in range(RECORDS):
            characters = int(np.exp(random.normal(6.0, 1.0)).clip(20, 16_000))
            kind = random.choice([*MEDIA, ""], p=[*(share for share, _, _ in MEDIA.values()), 0.3])
            count = int(random.integers(1, 4)) if kind else 0
            asked: list[dict[str, Any]] = [{"type": str(kind), str(kind): "absent"}] * count
            turns = [
                {"role": "user", "content": [*asked, {"type": "text", "text": "what is it?"}]},
                {"role": "assistant", "content": "a" * characters},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
            _, places, flops = MEDIA.get(str(kind), (0.0, 0, 0.0))
            positions = characters / 4 + places * count
            quadratic = 4 * LAYERS * WIDTH * positions**2
            work.append((2 * PARAMETERS * positions + quadratic, flops * count))
    return work


def apart(share: Callable[[int, int], Sequence[Reference]], work: Sequence[tuple[float, float]], world: int) -> Any:
    """Over a window and on the mean of its steps: (most - least) / mean, of the LLM's FLOPs and of the encoders'."""
    steps = np.array(
        [
            [np.sum([work[own.index] for own in share(step, rank)], axis=0) for rank in range(world)]
            for step in range(WINDOW)
        ]
    )
    over, each = steps.sum(0), steps
    return np.ptp(over, axis=0) / over.mean(0), (np.ptp(each, axis=1) / each.mean(1)).mean(0)


def in_turn(schedule: Mixture, world: int, step: int, rank: int) -> list[Reference]:
    """Items rank, rank + world, ... of a step."""
    return schedule.batch(step)[rank::world]


def run(folder: Path) -> Path:
    """Some numbers of processes."""
    path = folder / "mixed.jsonl"
    work = write(path)
    source = JsonLines(path)
    rows = []
    for world, each in ((2, 8), (4, 8), (8, 16)):
        schedule = Mixture("stage", {"mixed": len(source)}, {"mixed": 1.0}, world * each, 2 * WINDOW)
        dealer = Dealer(schedule, lambda reference: source.load(reference.index), world)
        began = time.process_time()
        dealer.share(WINDOW - 1, 0)
        took = (time.process_time() - began) / (WINDOW * world * each)
        for name, share in (
            ("in turn", partial(in_turn, schedule, world)),
            ("by cost", dealer.share),
        ):
            over, step = apart(share, work, world)
            row = {"processes": world, "conversations each": each, "dealt": name}
            row |= {"LLM, window": float(over[0]), "encoders, window": float(over[1])}
            row |= {"LLM, a step": float(step[0]), "encoders, a step": float(step[1])}
            rows.append(row | ({"us a conversation": took * 1e6} if name == "by cost" else {}))
    return report("balance", rows, window=WINDOW, apart="(most - least) / mean")
