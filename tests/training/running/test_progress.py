"""Progress: one line for each stage, under its name; lines of their own where there is no terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import NAMES, STEPS, fit

from isthmus.training import StageProgressBar, TokenRate
from isthmus.training.running import stage_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(
    experts: dict[str, Path], folder: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, **run: Any
) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    extra = [StageProgressBar(), TokenRate()]
    fit(experts, folder, extra=extra, enable_progress_bar=True, validates=True, log_every_n_steps=1, **run)
    return "\n".join(line for line in stream.getvalue().split("\n") if any(name in line for name in NAMES))


def test_a_stage_has_one_line_on_a_terminal(
    experts: dict[str, Path], whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation is inside it, and it is whole after a resumption, too."""
    monkeypatch.setattr(stage_line, "SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "150")
    found = shown(experts, tmp_path, Terminal(), monkeypatch, resume=str(whole[0] / "checkpoints" / "step=3.ckpt"))
    assert "\x1b[A" not in found
    lines = [line.split("\r")[-1].strip() for line in found.split("\n") if line.strip()]
    assert len(lines) == len(NAMES)
    for number, (name, line) in enumerate(zip(NAMES, lines, strict=True), 1):
        steps = STEPS[name]
        counts = rf"{name} \({number}/3\) {steps}/{steps} \|.*\| 00:00 left, [\d,]+ tokens/s"
        assert re.match(rf"{counts}, loss [\d.e+-]+, .*text_accuracy", line), line
    assert "encoder_alignment (1/3) 4/5" in found and "encoder_alignment (1/3) 3/5" in found
    assert "validating 1 of 1" in found and "v_num" not in found


def test_without_a_terminal_there_are_few_lines(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shown(experts, tmp_path, io.StringIO(), monkeypatch, saves=False)
    lines = found.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"{name} ({at}/3)" for at, name in enumerate(NAMES, 1)]
    assert re.match(r"encoder_alignment \(1/3\): 5 of 5 in 00:\d\d, [\d,]+ tokens/s, loss [\d.]+, .*", lines[0])
    assert "\r" not in found and "\x1b" not in found


def test_lines_come_less_often_as_a_stage_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(stage_line, "perf_counter", lambda: now)
    line = stage_line.StageLine("tuning", 100_000, done=1_000)
    at = []
    for second in range(100_000):
        now = float(second)
        if line.is_due:
            line.show(1_000 + second, "loss 1")
            at.append(second)
    assert at[:3] == [30, 60, 120] and at[-1] - at[-2] == 600
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "tuning: 1030 of 100000 27:29:30 left, loss 1"
    assert len(at) < 250
