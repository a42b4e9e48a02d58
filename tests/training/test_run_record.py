"""What a run's record says: what it was made of, where it ran, and how each start ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException
from runs import fit

from isthmus.training import RunRecord, SkipNonFinite
from isthmus.training.run_record import RECORD, UNSAID, commit

FIRST = ["encoder_alignment"]


class Pulled(pl.Callback):
    """An error in a step, counted from 1."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == self.step:
            raise RuntimeError("the plug was pulled")


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return found


def test_every_start_is_told_with_its_end(experts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="pulled"):
        fit(experts, tmp_path, FIRST, extra=[RunRecord(), Pulled(4)])
    first = read(tmp_path)
    assert first["starts"][0]["outcome"] == "RuntimeError: the plug was pulled"
    # A process that is killed says nothing: the next start says it for it.
    first["starts"][0] |= {"outcome": None, "ended": None}
    (tmp_path / RECORD).write_text(json.dumps(first))
    last = str(tmp_path / "checkpoints/step=3.ckpt")
    fit(experts, tmp_path, FIRST, extra=[RunRecord(), SkipNonFinite()], resume=last)
    record = read(tmp_path)
    assert [(start["outcome"], start["from_step"], start["to_step"]) for start in record["starts"]] == [
        (UNSAID, 0, 3),
        ("over", 3, 5),
    ]
    start = record["starts"][1]
    assert start["begun"] <= start["ended"] and start["processes"] == len(start["places"]) == 1
    assert record["versions"]["torch"] == torch.__version__ and record["engine"] == "SingleDeviceStrategy"
    assert record["stages"] == FIRST and record["seeds"]["data"] == 5 and record["skipped_steps"] == 0
    assert record["data"] == {"describe": {"class": "isthmus.pocket.tasks.Describe", "conversations": 40}}


class Late(pl.Callback):
    """SIGTERM in the very last batch."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_that_comes_too_late_is_no_failure(experts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SIGTERMException):
        fit(experts, tmp_path, FIRST, extra=[RunRecord(), Late()])
    assert read(tmp_path)["starts"][0]["outcome"] == "over" and (tmp_path / FIRST[0] / "manifest.json").is_file()


def test_a_trial_and_a_record_that_cant_be_read(
    experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(experts, tmp_path, FIRST, extra=[RunRecord()], fast_dev_run=True)
    assert not (tmp_path / RECORD).exists()
    (tmp_path / RECORD).write_text("[]")
    with caplog.at_level(logging.WARNING, "isthmus"):
        fit(experts, tmp_path, FIRST, extra=[RunRecord()], saves=False)
    assert "found no record of a run" in caplog.text and len(read(tmp_path)["starts"]) == 1


def test_a_clones_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert commit(tmp_path) is None

    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    found = commit(tmp_path)
    assert found is not None and len(found["id"]) == 40 and not found["is_dirty"]
    (tmp_path / "a").write_text("2")
    changed = commit(tmp_path)
    assert changed is not None and changed["id"] == found["id"] and changed["is_dirty"]
