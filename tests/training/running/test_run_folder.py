"""One run at a time in a folder, and no new one over an earlier one's work."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from isthmus.training.running.run_folder import LOCK, RunLock, refuse_work, set_aside, work_in
from isthmus.writing import write_folder


def holder(folder: Path) -> tuple[int, int]:
    """A process that holds a folder, and its data worker, which knows nothing of it; their ids."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        lock = RunLock(folder)
        lock.acquire()
        worker = os.fork()
        if worker:
            os.write(write, str(worker).encode())
        while True:
            time.sleep(1)
    return process, int(os.read(read, 20))


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """Gone is gone, also by SIGKILL, and also where a data worker outlives it."""
    process, worker = holder(tmp_path)
    lock = RunLock(tmp_path)
    with pytest.raises(ValueError, match=rf"held by a run that goes on: process {process} on .*UTC.*Fix"):
        lock.acquire()
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    lock.acquire()
    os.kill(worker, signal.SIGKILL)
    lock.release()


def test_a_process_holds_a_folder_once(tmp_path: Path) -> None:
    lock, other = RunLock(tmp_path), RunLock(tmp_path / "." / "")
    lock.acquire()
    lock.acquire()
    with pytest.raises(ValueError, match=rf"held by a run that goes on: process {os.getpid()}"):
        other.acquire()
    lock.release()
    other.acquire()
    other.release()


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "stage.partial").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt.partial").write_bytes(b"half")
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()
    assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", LOCK}


def test_a_folder_that_cant_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"training.folder: .*file/run can't be written to.*Fix"):
        RunLock(tmp_path / "file" / "run").acquire()


def test_an_earlier_run_is_set_aside_whole_and_nothing_else(tmp_path: Path) -> None:
    write_folder(tmp_path / "encoder_alignment", {"manifest.json": b"{}"})
    for name in (
        "config.yaml",
        "checkpoints/last.ckpt",
        "lightning_logs/version_0/events",
        "other/checkpoints/last.ckpt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"found .*last.ckpt and 1 more.*--ckpt_path last.*--overwrite.*previous-1"):
        refuse_work(tmp_path)
    for number in (1, 2):
        set_aside(tmp_path)
        assert not work_in(tmp_path)
        refuse_work(tmp_path)
        set_aside(tmp_path)  # nothing is left that took work
        write_folder(tmp_path / "encoder_alignment", {"manifest.json": b"{}"})
        assert (tmp_path / f"previous-{number}/encoder_alignment/manifest.json").is_file()
    kept = {str(path.relative_to(tmp_path / "previous-1")) for path in (tmp_path / "previous-1").rglob("*")}
    assert {"config.yaml", "checkpoints/last.ckpt", "lightning_logs/version_0/events"} <= kept
    assert (tmp_path / "other/checkpoints/last.ckpt").is_file()
