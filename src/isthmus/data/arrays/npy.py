"""numpy's files, held against limits by their headers before their arrays take memory."""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, Any]
Check = Callable[[tuple[int, ...], int], None]
"""The shape and the bytes that a header declares -> an error where these are too large."""

_LONGEST_HEADER = 10_000
"""Bytes of an npy header: numpy's own limit for files that aren't trusted."""


def check_header(file: BinaryIO, check: Check) -> None:
    """Holds an npy header against limits; the file stands after it.

    Raises:
        ValueError: it is damaged, declares Python objects, or is refused by ``check``.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        # numpy takes memory for all that this length declares, and compares it with its own limit after that.
        start = file.tell()
        (length,) = struct.unpack("<I", file.read(4))
        file.seek(start)
        if length > _LONGEST_HEADER:
            raise ValueError(f"its header declares a length of {length} bytes")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    check(shape, math.prod(shape) * max(dtype.itemsize, 4))


def read_npy(path: Path, check: Check) -> Array:
    """The array of an ``npy``."""
    with path.open("rb") as file:
        check_header(file, check)
        file.seek(0)
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def read_npz(path: Path, check: Check, wanted: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """Those arrays of an ``npz`` that are wanted, by key, every header checked before any is read; and all keys."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                check_header(file, check)  # type: ignore[arg-type]  # a ZipExtFile reads like a binary file
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files if key in wanted}, list(arrays.files)
