"""Gradient norms by part, before clipping, and memory: what is logged beside the losses."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from runs import fit

from isthmus.training.running import monitors
from isthmus.training.running.monitors import GradientNorms, MemoryUse, gpu

KEPT = [("allocated", "peak"), ("allocated", "current"), ("reserved", "current")]


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


def test_a_figure_that_the_driver_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refused(device: torch.device) -> int:
        asked.append("load")
        raise RuntimeError("Not Supported")

    monkeypatch.setattr(monitors, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "utilization", refused)
    monkeypatch.setattr(torch.cuda, "temperature", lambda device: 40)
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: 90_000)
    stats = dict.fromkeys([f"{kind}_bytes.all.{when}" for kind, when in KEPT], 0)
    trainer: Any = SimpleNamespace(accelerator=SimpleNamespace(get_device_stats=lambda device: stats))
    without: set[str] = set()
    for _ in range(2):
        figures = gpu(trainer, torch.device("cuda"), without)
        assert figures["gpu/degrees_celsius"] == 40 and figures["gpu/watts"] == 90
        assert "gpu/load_percent" not in figures
    assert len(asked) == 1
