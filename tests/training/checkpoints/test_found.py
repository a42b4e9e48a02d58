"""Which checkpoints a run keeps, which is the newest, and what a killed or failing writer leaves."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import killed_at

from isthmus.training.checkpoints.found import checkpoints, latest, step_of
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints
from isthmus.training.checkpoints.settings import CheckpointSettings

KINDS = pytest.mark.parametrize("distributed", [False, True], ids=["file", "folder"])


def state(step: int) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((2000,), float(step))}, "global_step": step}


def save(folder: Path, steps: list[int], **settings: Any) -> list[str]:
    """Saves ``last.ckpt`` anew at each of some steps; the names that there are then."""
    saving = RunCheckpoints(CheckpointSettings(**settings))
    for step in steps:
        saving.save_checkpoint(state(step), folder / "last.ckpt")
    return sorted(path.name for path in folder.iterdir())


@KINDS
def test_so_many_of_the_last_are_kept(distributed: bool, tmp_path: Path) -> None:
    assert save(tmp_path, [1, 2], distributed=distributed) == ["last.ckpt"]
    kept = ["last-20.ckpt", "last-9.ckpt", "last.ckpt"]
    assert save(tmp_path, [3, 9, 20, 100], distributed=distributed, keep_last=3) == kept
    assert [step_of(path) for path in latest([tmp_path])] == [100, 20, 9]
    # A run that was begun again from an earlier step: what lies ahead of it is of another future.
    assert save(tmp_path, [15], distributed=distributed, keep_last=3) == ["last-9.ckpt", "last.ckpt"]
    # Kept under the other kind, too.
    assert save(tmp_path, [16], distributed=not distributed, keep_last=2) == ["last-15.ckpt", "last.ckpt"]


@KINDS
def test_the_newest_is_the_one_of_most_steps(distributed: bool, tmp_path: Path) -> None:
    """Whatever the clocks of the machines say that wrote them."""
    saving = RunCheckpoints(CheckpointSettings(distributed=distributed, keep_last=9))
    for step, name in enumerate(("best", "last-1", "last", "other")):
        saving.save_checkpoint(state(step), tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", (9000 - step, 9000 - step))
    assert [path.stem for path in checkpoints(tmp_path)] == ["other", "last", "last-1", "best"]
    assert [path.stem for path in latest([tmp_path])] == ["last", "last-1", "other", "best"]


MOMENTS = [("rename", 0), ("rename", 1), ("replace", 0), *(("fsync", call) for call in range(5))]


@pytest.mark.parametrize(("name", "call"), MOMENTS)
def test_a_kill_while_a_folder_is_written_leaves_a_whole_one(name: str, call: int, tmp_path: Path) -> None:
    """At each of the syncs and renames."""
    save(tmp_path, [1], distributed=True)
    assert killed_at(call, name, lambda: save(tmp_path, [2], distributed=True))
    saving = RunCheckpoints()
    found = latest([tmp_path])
    assert saving.load_checkpoint(found[0])["global_step"] == 1
    assert save(tmp_path, [3], distributed=True) == ["last.ckpt"]


@KINDS
@pytest.mark.parametrize("asynchronous", [False, True])
def test_failures_are_counted_and_nothing_is_removed(
    distributed: bool, asynchronous: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saving = RunCheckpoints(CheckpointSettings(distributed, asynchronous, tolerated_failures=2))
    best = tmp_path / "best.ckpt"
    saving.save_checkpoint(state(1), best)
    for step in (2, 3):
        (tmp_path / "gone").write_text("a file where a folder is to be")
        saving.save_checkpoint(state(step), tmp_path / "gone" / "better.ckpt")
        saving.remove_checkpoint(best)  # as ModelCheckpoint does, for the better one
        saving.finish()
        assert saving.failures == step - 1 and step_of(best) == 1
    allowed = "failure 2 in a row of 2 that training.checkpoints.tolerated_failures allows"
    assert any(allowed in said for said in caplog.messages)  # the thread that writes may say its own afterwards
    saving.save_checkpoint(state(4), tmp_path / "better.ckpt")
    saving.remove_checkpoint(best)
    saving.finish()
    assert saving.failures == 0 and not best.exists()
    for _ in range(2):
        saving.save_checkpoint(state(5), tmp_path / "gone" / "better.ckpt")
        saving.finish()
    with pytest.raises(ValueError, match=r"gone/better.ckpt: it can't be written .*Fix: choose a folder"):
        saving.save_checkpoint(state(5), tmp_path / "gone" / "better.ckpt") or saving.finish()


def test_training_goes_on_while_one_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next save, and the end, wait for it; a removal too."""
    may_write, replace = threading.Event(), os.replace
    monkeypatch.setattr(os, "replace", lambda *names: may_write.wait(60) and replace(*names))
    saving = RunCheckpoints(CheckpointSettings(asynchronous=True))
    saving.save_checkpoint(state(1), tmp_path / "one.ckpt")
    assert not (tmp_path / "one.ckpt").exists()  # it has come back while the disk is at work
    saving.remove_checkpoint(tmp_path / "one.ckpt")
    may_write.set()
    saving.save_checkpoint(state(2), tmp_path / "two.ckpt")
    saving.teardown()
    assert [path.name for path in tmp_path.iterdir()] == ["two.ckpt"]


@pytest.mark.parametrize(
    ("harm", "expected"), [(b"", "damaged, cut short, or no checkpoint"), (None, "there is no such file")]
)
def test_last_falls_back_to_the_newest_whole_one(
    harm: bytes | None, expected: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "isthmus")
    save(tmp_path, [1, 2, 3], keep_last=3)
    saving = RunCheckpoints()
    saving.fallbacks = latest([tmp_path])
    if harm is None:
        (tmp_path / "last.ckpt").unlink()
    else:
        (tmp_path / "last.ckpt").write_bytes(harm)
    assert saving.load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 2
    assert saving.loaded == tmp_path / "last-2.ckpt"
    assert expected in caplog.text and f"taken instead: {tmp_path}/last-2.ckpt" in caplog.text


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"training.checkpoints.keep_last: found 0; expected at least 1. Fix"):
        CheckpointSettings(keep_last=0)
    with pytest.raises(ValueError, match=r"tolerated_failures: found -1"):
        CheckpointSettings(tolerated_failures=-1)
