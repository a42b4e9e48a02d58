"""Which files a set is made of: one, a folder of them, or a pattern; and which of them are of some splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from isthmus.paths import user_path

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def listed_files(path: str | Path, endings: Sequence[str]) -> list[Path]:
    """The files at a path in order: itself, all with these endings below a folder, or those of a pattern.

    Patterns are the shell's: ``data/*.tar``, and ranges, ``data/{00000..00012}.tar``.
    """
    place = user_path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [one for one in place.rglob("*") if one.name.lower().endswith(tuple(endings)) and one.is_file()]
    elif span := _RANGE.search(place.name):
        first, last = span[1], span[2]
        numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
        names = [place.name.replace(span[0], number) for number in numbers]
        found = [one for name in names for one in place.parent.glob(name)]
    else:
        found = [one for one in place.parent.glob(place.name) if one.is_file()]
    # A name that begins with a dot is no file of a set; nor is a table in which Hugging Face's library keeps results.
    return sorted(one for one in found if not one.name.startswith(".") and not one.match("cache-*.arrow"))


def of_splits(files: Sequence[Path], splits: Sequence[str], root: Path) -> list[Path]:
    """Those files whose names or folders below ``root`` have one of the splits' names as a word."""
    words = re.compile(rf"(^|[^A-Za-z])({'|'.join(map(re.escape, splits))})([^A-Za-z]|$)")
    return [one for one in files if words.search(str(one.relative_to(root)) if root in one.parents else one.name)]
