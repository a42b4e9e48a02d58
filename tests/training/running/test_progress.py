"""The progress bar: one for each stage, under its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import NAMES, STEPS, fit

from isthmus.training import StageProgressBar


def test_each_stage_has_a_bar_of_its_own(
    experts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(experts, tmp_path, saves=False, extra=[StageProgressBar(refresh_rate=1)], enable_progress_bar=True)
    shown = capsys.readouterr().out
    for number, name in enumerate(NAMES, 1):
        finished = [line for line in shown.replace("\r", "\n").split("\n") if line.startswith(f"{name} ({number}/3)")]
        assert finished, name
        assert f"{STEPS[name]}/{STEPS[name]}" in finished[-1]
        assert "text_accuracy=" in finished[-1]
    assert "v_num" not in shown
