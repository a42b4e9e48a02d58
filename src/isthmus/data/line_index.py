"""Where the lines of a large file begin, kept from run to run: a file of a million is passed through once."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

import numpy as np

LARGE = 1 << 25
"""Bytes from which on an index is kept: a smaller file is passed through in a tenth of a second."""

Lines = tuple[Sequence[int], Sequence[int]]
"""The offset of each line that isn't blank, and its number, from 1 on."""


def line_index(path: Path) -> Lines:
    """The lines of a text file, from the index where it has the file's present size and time of change.

    An index is an ``.npy`` file of int64 in ``$XDG_CACHE_HOME/isthmus/lines``, by default under ``~/.cache``. It is
    mapped into memory, so that processes share it. Where it can't be read or written, the file is passed through.
    """
    found = path.stat()
    if found.st_size < LARGE:
        return _scanned(path)
    index, facts = index_of(path), (found.st_size, found.st_mtime_ns)
    try:
        held = np.load(index, mmap_mode="r", allow_pickle=False)
        if held.dtype == np.int64 and held.ndim == 2 and held.shape[0] == 2 and tuple(held[:, 0]) == facts:
            return held[0, 1:], held[1, 1:]
    except (OSError, ValueError, EOFError):
        pass
    offsets, numbers = _scanned(path)
    _write(index, np.array([[facts[0], *offsets], [facts[1], *numbers]], dtype=np.int64))
    return offsets, numbers


def index_of(path: Path) -> Path:
    """Where the index of a file lies."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "isthmus" / "lines" / f"{blake2b(str(path.resolve()).encode(), digest_size=16).hexdigest()}.npy"


def _scanned(path: Path) -> Lines:
    offsets, numbers = array("q"), array("q")
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                offsets.append(offset)
                numbers.append(number)
            offset += len(line)
    return offsets, numbers


def _write(index: Path, table: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> None:
    aside = index.with_name(f"{uuid4().hex}.npy")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        np.save(aside, table, allow_pickle=False)
        os.replace(aside, index)
    except OSError:
        with suppress(OSError):
            aside.unlink()
