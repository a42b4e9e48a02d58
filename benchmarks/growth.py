"""How a step's time grows: over sequence length, batch and size of the LLM."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import Work, flops, interleaved
from benchmarks.miniature import write_llm
from benchmarks.report import report
from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.types import Batch

LENGTHS = {"short": (32, 64, 128, 256), "long": (32, 64, 128, 256, 512, 1024)}
BATCHES = {"short": (1, 4, 16), "long": (1, 2, 4, 8, 16, 32, 64)}
WIDTHS = {"short": (64, 128, 256), "long": (64, 128, 256, 512)}
TOKENS, SIZE, WIDTH = 64, 8, 128


def step(backbone: CausalBackbone, size: int, tokens: int) -> Work:
    """Forward and backward of a LoRA step over texts of equal length."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, backbone.vocabulary.base_size, (size, tokens), generator=generator)
    labels = ids.clone()
    labels[:, : tokens // 2] = -100
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), labels)

    def work() -> None:
        backbone(batch, {}).text_loss.backward()

    return work


def _backbone(folder: Path, width: int) -> CausalBackbone:
    backbone = CausalBackbone(write_llm(folder / f"llama-{width}", width, 4), lora=LoraSettings(r=4, lora_dropout=0.0))
    backbone.materialize()
    return backbone


def works(folder: Path, form: str) -> dict[tuple[str, int], Work]:
    """(What grows, to what) -> a step."""
    backbone = _backbone(folder, WIDTH)
    found: dict[tuple[str, int], Work] = {}
    found |= {("sequence length", tokens): step(backbone, SIZE, tokens) for tokens in LENGTHS[form]}
    found |= {("batch", size): step(backbone, size, TOKENS) for size in BATCHES[form]}
    found |= {("LLM width", width): step(_backbone(folder, width), SIZE, TOKENS) for width in WIDTHS[form]}
    return found


def run(folder: Path, repetitions: int = 5, form: str = "short") -> Path:
    """A row a point: time and work over the smallest of its kind; the exponents between neighbours."""
    points = works(folder, form)
    counted = {point: flops(work) for point, work in points.items()}
    seconds = interleaved({str(point): work for point, work in points.items()}, repetitions)
    medians = {point: sorted(seconds[str(point)])[repetitions // 2] for point in points}
    rows: list[dict[str, Any]] = []
    for (kind, value), took in medians.items():
        same = [point for point in points if point[0] == kind]
        first, before = same[0], same[max(same.index((kind, value)) - 1, 0)]
        row: dict[str, Any] = {
            "grows": kind,
            "to": value,
            "time": took / medians[first],
            "FLOPs": counted[kind, value] / counted[first],
            "ms": took * 1e3,
        }
        if before != (kind, value):
            row["exponent"] = math.log(took / medians[before]) / math.log(value / before[1])
        rows.append(row)
    return report("growth", rows, repetitions=repetitions, form=form)
