"""Profilers by their short names: a table for a screen, long reports in the run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler
from runs import fit

from isthmus.training.running.profile import ScreenProfiler, profiler_of


def test_the_table_fits_a_screen(experts: dict[str, Path], tmp_path: Path) -> None:
    profiler = ScreenProfiler()
    fit(experts, tmp_path, ["encoder_alignment"], profiler=profiler)
    lines = profiler.summary().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    assert any(line.startswith("run_training_epoch ") for line in lines)
    assert "actions lie within one another; " in lines[0] and "shorter ones aren't shown" in lines[0]
    assert not any("monitor" in line for line in lines)  # a callback's settings


def test_long_reports_go_into_the_folder(tmp_path: Path) -> None:
    for name, kind in (("advanced", AdvancedProfiler), ("pytorch", PyTorchProfiler)):
        profiler = profiler_of(name, tmp_path)
        assert isinstance(profiler, kind) and (profiler.dirpath, profiler.filename) == (tmp_path, "profile")
    with pytest.raises(ValueError, match=r"trainer.profiler: found 'best'; expected simple.*Fix"):
        profiler_of("best", tmp_path)
