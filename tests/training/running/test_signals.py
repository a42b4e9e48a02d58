"""Signals of a cluster: SLURM's warning puts the job back into the queue, and a second signal loses nothing."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities.exceptions import SIGTERMException
from runs import fit


class Signalled(pl.Callback):
    """Sends its own process signals in the second step, one after another."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of one task; what ``scontrol`` was asked for stands in the file."""
    asked = tmp_path / "asked.txt"
    command = tmp_path / "bin/scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"JOB_ID": "7", "NTASKS": "1", "JOB_NAME": "isthmus", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NODEID", "0")
    return asked


@pytest.mark.parametrize(("array", "again"), [(None, signal.SIGUSR1), ("3", signal.SIGTERM)])
def test_slurms_warning_saves_and_requeues(
    array: str | None,
    again: signal.Signals,
    slurm: Path,
    experts: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SIGTERM that follows, as SLURM sends it at the limit, disturbs neither the writing nor the queueing."""
    if array is not None:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", array)
    caplog.set_level(logging.INFO, "isthmus")
    extra, plugins = [Signalled(signal.SIGUSR1, again)], [SLURMEnvironment()]
    with pytest.raises(SIGTERMException):
        fit(experts, tmp_path / "run", ["encoder_alignment"], extra=extra, plugins=plugins)
    assert slurm.read_text() == ("requeue 7\n" if array is None else "requeue 5_3\n")
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert caplog.messages[-1].startswith("SIGUSR1: job") and "SIGUSR1 ended the run" in caplog.messages[-2]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_second_ctrl_c_ends_at_once_and_a_second_sigterm_doesnt(experts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:  # Lightning's own answer to KeyboardInterrupt
        fit(experts, tmp_path / "a", ["encoder_alignment"], extra=[Signalled(signal.SIGINT, signal.SIGINT)])
    assert isinstance(ended.value.__context__, KeyboardInterrupt)
    assert [path.stem for path in (tmp_path / "a/checkpoints").iterdir()] == ["step=1"]
    with pytest.raises(SIGTERMException):
        fit(experts, tmp_path / "b", ["encoder_alignment"], extra=[Signalled(signal.SIGTERM, signal.SIGTERM)])
    assert torch.load(tmp_path / "b/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2


class SignalledAll(pl.Callback):
    """Sends SIGTERM to its own process and to all that it has started since, in the second step."""

    def __init__(self) -> None:
        self.workers = 0
        self.others = set(multiprocessing.active_children())  # another test's, which nobody has collected yet

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            workers = set(multiprocessing.active_children()) - self.others
            for process in [*(worker.pid for worker in workers), os.getpid()]:
                assert process is not None
                os.kill(process, signal.SIGTERM)
            time.sleep(0.5)
            self.workers = sum(worker.is_alive() for worker in workers)


def test_sigterm_to_all_processes_ends_a_run_whose_workers_still_serve(
    experts: dict[str, Path], tmp_path: Path
) -> None:
    """As ``pkill`` sends it, and whoever ends a job by all of its processes."""
    signalled = SignalledAll()
    with pytest.raises(SIGTERMException):
        fit(experts, tmp_path, ["encoder_alignment"], extra=[signalled], workers=2)
    assert signalled.workers == 2
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert set(multiprocessing.active_children()) <= signalled.others
