"""A run holds its folder: one run at a time writes into it, and none writes over an earlier one's work."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl

from isthmus.paths import user_path
from isthmus.training.checkpoints.found import checkpoints
from isthmus.writing import PARTIAL, PREVIOUS

log = logging.getLogger(__name__)

LOCK = ".run.lock"
CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
EARLIER = "previous"
"""``FOLDER/previous-1``, ``previous-2``, ...: earlier runs that were set aside."""

_held: set[Path] = set()
"""Folders that this process holds: a process's second lock on a file isn't refused by the system."""


class RunLock:
    """The lock on a run's folder. The system releases it when the process is gone, however it ends.

    It is a POSIX record lock (``lockf``): a process that only inherits the file, such as a data worker, doesn't hold
    it. On network file systems it works where the server supports locks (NFS 4, or ``lockd``); where none can be had,
    that is logged and the run goes on without.

    Args:
        folder: the run's.
        name: of the setting that chooses it, for errors.
    """

    def __init__(self, folder: Path, name: str = "training.folder") -> None:
        self.folder = user_path(folder)
        self.name = name
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Takes the lock, and removes what writers left that were killed; taking it twice is taking it once.

        Raises:
            ValueError: another run holds the folder, or it can't be made.
        """
        if self._file is not None:
            return
        path = self.folder.resolve() / LOCK
        if path in _held:  # not opened: closing any file on it would give up what this process holds
            raise ValueError(self._refusal(f"{_name(os.getpid())} which is this one"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise ValueError(
                f"{self.name}: {self.folder} can't be written to ({error}). Fix: choose another folder."
            ) from error
        if not self._lock(file):
            file.seek(0)
            holder = file.read().strip()
            file.close()
            if holder.startswith(_name(os.getppid())):  # a launcher that starts the processes of its run itself
                return
            raise ValueError(self._refusal(holder or "another process of a machine that shares the folder"))
        _held.add(path)
        self._file = file
        file.truncate(0)
        file.write(f"{_name(os.getpid())} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
        file.flush()
        self._clean()

    def release(self) -> None:
        """Gives the folder back."""
        if self._file is not None:
            _held.discard(self.folder.resolve() / LOCK)
            self._file.close()
            self._file = None

    def hold(self, trainer: pl.Trainer) -> None:
        """Takes the lock for all processes of a run.

        Raises:
            ValueError: in every one of them; see :meth:`acquire`.
        """
        said: str | None = None
        if trainer.is_global_zero:
            try:
                self.acquire()
            except ValueError as error:
                said = str(error)
        said = trainer.strategy.broadcast(said)
        if said is not None:
            raise ValueError(said)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_file": None}

    def _lock(self, file: IO[str]) -> bool:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            log.warning("%s: its file system has no locks (%s): see that one run at a time uses it", self.folder, error)
        return True

    def _refusal(self, holder: str) -> str:
        return (
            f"{self.name}: {self.folder} is held by a run that goes on: {holder}. Two runs in one folder would mix "
            f"their files. Fix: choose another {self.name}, wait for that run, or end it."
        )

    def _clean(self) -> None:
        for folder in (self.folder, self.folder / CHECKPOINTS):
            for left in folder.glob(f"*{PARTIAL}"):
                log.info("%s: left by a run that was killed while it wrote; removed", left)
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _name(process: int) -> str:
    return f"process {process} on {socket.gethostname()},"


def work_in(folder: Path) -> list[Path]:
    """What a run has left in its folder that took work: checkpoints, and stages' weights."""
    bundles = [path.parent for path in sorted(folder.glob(f"*/{MANIFEST}")) if path.parent.suffix != PREVIOUS]
    return [*checkpoints(folder / CHECKPOINTS), *bundles]


def has_stages_alone(folder: Path, names: Sequence[str]) -> bool:
    """Whether a run's folder holds the weights of some of its stages, not of all, and no checkpoint to go on from."""
    over = [(folder / name / MANIFEST).is_file() for name in names]
    return any(over) and not all(over) and not checkpoints(folder / CHECKPOINTS)


def refuse_work(folder: Path) -> None:
    """Refuses a new run in a folder that holds an earlier one's work.

    Raises:
        ValueError: there is some; the message says how to go on with it, and how to begin anew.
    """
    found = work_in(folder)
    if found:
        raise ValueError(
            f"training.folder: {folder} holds a run already: found {found[0]}"
            + (f" and {len(found) - 1} more" if len(found) > 1 else "")
            + "; expected none at the start of a new run. Fix: go on with --ckpt_path last, choose another "
            "training.folder, or begin anew with --overwrite, which keeps the earlier run under "
            f"{_earlier(folder)}."
        )


def set_aside(folder: Path) -> None:
    """Moves an earlier run's files into ``FOLDER/previous-N``; other runs' folders below this one stay."""
    if not work_in(folder):
        return
    target = _earlier(folder)
    target.mkdir()
    for path in sorted(folder.iterdir()):
        of_run = path.name == CHECKPOINTS or path.name.endswith("_logs") or (path / MANIFEST).is_file()
        if path.name != LOCK and (of_run or path.is_file()):
            path.rename(target / path.name)
    log.info("%s: the earlier run is now under %s", folder, target)


def set_aside_runs(folder: Path) -> list[Path]:
    """Where earlier runs of a folder are, the newest first."""
    return sorted(folder.glob(f"{EARLIER}-*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _earlier(folder: Path) -> Path:
    number = 1
    while (folder / f"{EARLIER}-{number}").exists():
        number += 1
    return folder / f"{EARLIER}-{number}"
