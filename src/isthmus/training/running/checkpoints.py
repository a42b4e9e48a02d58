"""Checkpoints that nothing truncates: each is written beside its target and renamed, and proved whole when read."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from isthmus.writing import write_file

log = logging.getLogger(__name__)

SUFFIX = ".ckpt"
SHARED = "meta.pt"
"""What Lightning writes last into a checkpoint that is a folder of shares."""


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint format, kept whole on a local disk; object stores go Lightning's own way.

    Lightning stages a file in ``$TMPDIR`` and copies it over the only good one: a full disk or a kill amid the copy
    leaves neither. Here the earlier file stays until the new one is complete, synced and renamed.

    Args:
        writes: False for a trial run, which leaves no file.
    """

    def __init__(self, writes: bool = True) -> None:
        super().__init__()
        self.writes = writes

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See Lightning.

        Raises:
            ValueError: the file can't be written; the earlier one is as it was.
        """
        if not self.writes:
            return
        if storage_options is not None or _is_remote(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_file(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See Lightning; what was saved on a GPU is read into the CPU's memory.

        Raises:
            ValueError: the file isn't a whole checkpoint; the message names the newest one beside it that is.
        """
        if not _is_remote(path):
            fault = fault_of(Path(path))
            if fault is not None:
                raise ValueError(f"{path}: {fault}. {_fix(Path(path))}")
        try:
            read: Any = super().load_checkpoint(path, map_location or "cpu", weights_only)  # type: ignore[arg-type] # as torch.load takes it
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path}: it holds more than tensors and plain values, so that reading it could run code "
                f"({str(error).splitlines()[0]}); expected a checkpoint of this package. {_fix(Path(path))}"
            ) from error
        if not isinstance(read, dict) or "state_dict" not in read:
            raise ValueError(f"{path}: found a file of torch.save that is no checkpoint of a run. {_fix(Path(path))}")
        return read


def fault_of(path: Path) -> str | None:
    """What keeps a file from being a whole checkpoint; None if it is one. Every byte is read and its sum compared."""
    try:
        with ZipFile(path) as archive:
            broken = archive.testzip()
            names = archive.namelist()
    except FileNotFoundError:
        return "there is no such file"
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:  # as the damage has it
        return f"damaged, cut short, or no checkpoint at all ({error})"
    except OSError as error:
        return f"it can't be read ({error})"
    if broken is not None:
        return f"damaged (its part {broken} isn't what was written)"
    return None if any(name.endswith("data.pkl") for name in names) else "no checkpoint (found another kind of archive)"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first; links that lead nowhere are left out.

    A strategy that shards the model writes a folder instead of a file.
    """
    found = [path for path in folder.glob(f"*{SUFFIX}") if path.is_file() or (path / SHARED).is_file()]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def latest(folders: Iterable[Path]) -> Path | None:
    """What ``--ckpt_path last`` means: the newest file that is called ``last``; else the newest checkpoint."""
    found = [path for folder in folders for path in checkpoints(folder)]
    found.sort(key=lambda path: (path.name.startswith("last"), path.stat().st_mtime_ns), reverse=True)
    return found[0] if found else None


def newest_whole(folder: Path, but: Path | None = None) -> Path | None:
    """The newest whole checkpoint of a folder, other than one of them."""
    return next((path for path in checkpoints(folder) if path != but and fault_of(path) is None), None)


def _fix(path: Path) -> str:
    other = newest_whole(path.parent, path)
    if other is None:
        return "Fix: there is no other whole checkpoint beside it, so begin anew, or from a finished stage's weights."
    return f"Fix: the newest whole checkpoint beside it is {other}; go on with --ckpt_path {other}"


def _is_remote(path: Any) -> bool:
    return "://" in str(path)
