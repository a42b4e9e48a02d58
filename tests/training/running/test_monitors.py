"""Gradient norms by part, before clipping, and memory: what is logged beside the losses."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from runs import fit

from isthmus.training.running.monitors import GradientNorms, MemoryUse


class Norms(pl.Callback):
    """Lightning's way by hand: over the gradients of a step."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        parts = pl_module.model.parts()
        held = {part: [own.grad for own in each.values() if own.grad is not None] for part, each in parts.items()}
        self.found.append(
            {part: float(torch.cat([own.flatten() for own in each]).norm()) for part, each in held.items() if each}
        )


def test_norms_and_memory_are_logged(experts: dict[str, Path], tmp_path: Path) -> None:
    by_hand = Norms()
    fit(
        experts,
        tmp_path,
        ["decoder_alignment"],
        saves=False,
        extra=[by_hand, GradientNorms(), MemoryUse()],
        logger=CSVLogger(tmp_path),
        log_every_n_steps=2,
    )
    with next(tmp_path.rglob("metrics.csv")).open() as file:
        every = list(csv.DictReader(file))
    assert [0.05 < float(row["memory/process"]) < 64 for row in every if row["memory/process"]] == [True, True]
    rows = [row for row in every if row["gradient_norm/signal_rows"]]
    assert len(rows) == 2
    for row, expected in zip(rows, by_hand.found[1::2], strict=True):
        logged = {name.removeprefix("gradient_norm/"): value for name, value in row.items() if "gradient" in name}
        assert {name: float(value) for name, value in logged.items()} == pytest.approx(expected, rel=1e-5)
    assert "output_projectors.image" in by_hand.found[0] and "lora" not in by_hand.found[0]
