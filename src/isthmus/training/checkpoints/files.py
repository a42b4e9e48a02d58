"""Checkpoints that are one file, in Lightning's format."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch


def fault_of_file(path: Path) -> str | None:
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


def read_file(path: Path, lazily: bool = False) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Args:
        path: of the file.
        lazily: whether tensors stay on the disk until they are used.

    Raises:
        ValueError: it holds more than tensors and plain values, or it is no checkpoint.
    """
    try:
        read: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: it holds more than tensors and plain values, so that reading it could run code "
            f"({str(error).splitlines()[0]}); expected a checkpoint of this package"
        ) from error
    if not isinstance(read, dict) or "state_dict" not in read:
        raise ValueError(f"{path}: found a file of torch.save that is no checkpoint of a run")
    return read
