"""Which files of tar archives belong together, and where they lie: found once, by the headers, and kept on disk."""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from isthmus.data.derived import derived_file
from isthmus.data.errors import fault, is_machines
from isthmus.data.packed import unpacked
from isthmus.data.streaming.members import files_in

Dots = Literal["auto", "first", "last"]
"""Which dot of a file's name ends a sample's key."""

FORM = 1
"""Raised when the index of an archive says something else, so that earlier ones are not found."""


class TarSamples:
    """The files of archives, by key: files of one archive whose names are the same up to a dot of the last part.

    They needn't follow one another. Of each sample some 24 bytes are kept, in a file that processes share. What isn't a
    plain file, or begins with a dot, is passed over.

    Args:
        files: the archives, also packed by gzip or zstd.
        dots: WebDataset's rule is the first dot, so that ``0.seg.png`` is of sample ``0``. By ``auto`` it is the last
            one in an archive where samples by the first would hold several files of one ending, and those by the last
            are all alike: ``photo.1.jpg``, ``photo.1.txt``, ``photo.2.jpg``, ...

    Raises:
        ValueError: a file is no archive, or none holds a sample.
    """

    def __init__(self, files: Sequence[Path], dots: Dots = "auto") -> None:
        self.path = files[0]
        self.files = list(files)
        self.dots = dots
        self._plain = [unpacked(path) for path in files]
        self._ends = list(accumulate(len(self._starts(number)) for number in range(len(files))))
        if not self._ends[-1]:
            raise ValueError(f"{self.path}: found no files in it; expected samples. Fix: name another archive.")

    def __len__(self) -> int:
        return self._ends[-1]

    def where(self, index: int) -> str:
        """The archive, and the sample in it from 0."""
        number, place = self._at(index)
        return f"{self.files[number]}[{place}]"

    def sample(self, index: int) -> tuple[str, dict[str, bytes]]:
        """A sample's key, and its files by what follows the key's dot.

        Raises:
            DataError: the archive is cut off or damaged there.
        """
        number, place = self._at(index)
        where = self.where(index)
        ranges = self._index(number)
        begin = int(np.searchsorted(ranges[:, 0], place))
        files: dict[str, bytes] = {}
        try:
            # Opened anew each time: worker processes share no file position.
            with self._plain[number].open("rb") as file:
                for _, at, end in ranges[begin : np.searchsorted(ranges[:, 0], place, "right")].tolist():
                    file.seek(at)
                    files |= files_in(file.read(end - at), where)
        except OSError as error:
            if is_machines(error):
                raise
            raise fault(where, f"it can't be read ({error})", "an archive", "look to its rights") from error
        keys = [split_name(name, "last" if self._is_last(number) else "first") for name in files]
        return keys[0][0], {ending: data for (_, ending), data in zip(keys, files.values(), strict=True)}

    def _at(self, index: int) -> tuple[int, int]:
        index = range(len(self))[index]
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)

    def _table(self, number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        path = self._plain[number]
        form = f"tar index {FORM} by {self.dots}"
        kept = derived_file(path, form, lambda target: _write(index_of(path, self.dots), target))
        table: np.ndarray[Any, np.dtype[np.int64]] = np.load(kept, mmap_mode="r", allow_pickle=False)
        return table

    def _index(self, number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(ranges, 3): sample, first byte, and the one after the last, by sample."""
        return self._table(number)[1:]

    def _is_last(self, number: int) -> bool:
        return bool(self._table(number)[0, 0])

    def _starts(self, number: int) -> range:
        ranges = self._index(number)
        return range(int(ranges[-1, 0]) + 1 if len(ranges) else 0)


def split_name(name: str, dots: Dots) -> tuple[str, str]:
    """A member's name -> its sample's key, with its folder, and what follows the dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".") if dots == "first" else base.rpartition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def index_of(path: Path, dots: Dots) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(1 + ranges, 3): whether the last dot counts; then of each range its sample, first byte, and the one after.

    An archive that breaks off has the samples up to there; the last one's fault is told when it is read.

    Raises:
        ValueError: it is no archive.
    """
    members: list[tuple[str, int, int]] = []
    try:
        with tarfile.open(path, "r:") as archive:
            try:
                for member in archive:
                    base = PurePosixPath(member.name).name
                    if member.isreg() and "." in base[1:] and not base.startswith("."):
                        end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                        members.append((member.name, member.offset, end))
            except tarfile.ReadError:
                pass  # cut off
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: found no tar archive ({error}); expected one as WebDataset or img2dataset write it. Fix: copy it "
            "anew, or leave it out."
        ) from error
    chosen = _told_apart([name for name, _, _ in members]) if dots == "auto" else dots
    ranges: dict[str, list[tuple[int, int]]] = {}
    for name, begin, end in members:
        own = ranges.setdefault(split_name(name, chosen)[0], [])
        if own and own[-1][1] == begin:
            own[-1] = own[-1][0], end
        else:
            own.append((begin, end))
    rows = [(sample, *one) for sample, own in enumerate(ranges.values()) for one in own]
    return np.array([(chosen == "last", 0, 0), *rows], dtype=np.int64)


def _told_apart(names: Sequence[str]) -> Dots:
    first: dict[str, list[str]] = defaultdict(list)
    last: dict[str, list[str]] = defaultdict(list)
    for name in names:
        ending = name.rpartition(".")[2].lower()
        first[split_name(name, "first")[0]].append(ending)
        last[split_name(name, "last")[0]].append(ending)
    is_mixed = any(len(set(endings)) < len(endings) for endings in first.values())
    kinds = {tuple(sorted(endings)) for endings in last.values()}
    return "last" if is_mixed and len(kinds) == 1 and len(next(iter(kinds))) > 1 else "first"


def _write(table: np.ndarray[Any, Any], target: Path) -> None:
    with target.open("wb") as file:
        np.save(file, table, allow_pickle=False)
