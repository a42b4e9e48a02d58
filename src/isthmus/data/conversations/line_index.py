"""Where the records of a large file begin, kept from run to run: a file of a million is passed through once."""

from __future__ import annotations

import codecs
import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

import numpy as np

from isthmus.data.derived import cache_folder

LARGE = 1 << 25
"""Bytes from which on an index is kept: a smaller file is passed through in a tenth of a second."""

LONGEST = 64 << 20
"""Bytes of one record. What is longer is a file cut or glued in the middle, and isn't read whole."""

Lines = tuple[Sequence[int], Sequence[int]]
"""The offset of each record, and the number of the line in which it begins, from 1 on."""


def line_index(path: Path) -> Lines:
    """The lines of a text file that aren't blank, from the index that is kept of it, or by passing through it."""
    return indexed_lines(path, None)


def indexed_lines(path: Path, blank: bytes | None) -> Lines:
    """The lines of a text file that hold more than ``blank``'s bytes, or than white space where none are given."""
    kept = KeptIndex.of(path, "lines" if blank is None else f"lines but {blank!r}")
    lines = kept.read()
    if lines is None:
        lines = _scanned(path, blank)
        kept.write(lines)
    return lines


@dataclass(frozen=True)
class KeptIndex:
    """What is kept of a file as it is now. An index of other contents is none.

    It is an ``.npy`` file of int64 in ``$XDG_CACHE_HOME/isthmus/lines``, by default under ``~/.cache``, and is mapped
    into memory, so that processes share it. Where it can't be read or written, there is none.

    Attributes:
        place: where it lies.
        size: of the file, in bytes.
        changed: when the file was, in nanoseconds.
    """

    place: Path
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path, form: str) -> KeptIndex:
        """The index of a file; ``form`` says by what rule it is cut into records."""
        facts = path.stat()
        name = blake2b(f"{path.resolve()}\n{form}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return cls(cache_folder() / "lines" / f"{name}.npy", facts.st_size, facts.st_mtime_ns)

    def read(self) -> Lines | None:
        """What was written when the file had this size and time of change; None where nothing was."""
        if self.size < LARGE:
            return None
        try:
            held = np.load(self.place, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if held.dtype != np.int64 or held.ndim != 2 or len(held) != 2 or held.shape[1] < 1:
            return None
        return (held[0, 1:], held[1, 1:]) if tuple(held[:, 0]) == (self.size, self.changed) else None

    def write(self, lines: Lines) -> None:
        """Keeps the records of a large file."""
        if self.size < LARGE:
            return
        table = np.empty((2, len(lines[0]) + 1), dtype=np.int64)
        table[:, 0], table[0, 1:], table[1, 1:] = (self.size, self.changed), lines[0], lines[1]
        aside = self.place.with_name(f"{uuid4().hex}.npy")
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            np.save(aside, table, allow_pickle=False)
            os.replace(aside, self.place)
        except OSError:
            with suppress(OSError):
                aside.unlink()


def _scanned(path: Path, blank: bytes | None) -> Lines:
    offsets, numbers = array("q"), array("q")
    offset, number, is_told = 0, 1, False
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            offset = len(codecs.BOM_UTF8)
        file.seek(offset)
        while line := file.readline(LONGEST):  # of a longer line, its beginning tells
            if not is_told and line.strip(blank):
                offsets.append(offset)
                numbers.append(number)
                is_told = True
            offset += len(line)
            if line.endswith(b"\n"):
                number, is_told = number + 1, False
    return offsets, numbers
