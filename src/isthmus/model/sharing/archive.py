"""Files of a trained model in one zip file. It is read as coming from anywhere: names and sizes first, then content."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from isthmus.writing import write_file

ENDING = ".zip"
GIGABYTE = 1 << 30
LARGEST = 4.0
"""Gigabytes (2^30 bytes) that an archive's files have together, unless a caller allows more."""
MOST = 1000
"""Files of an archive."""
NAME = re.compile(r"manifest\.json|README\.md|[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")
_ALWAYS = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes], path: Path) -> None:
    """Writes files into one. The same files give the same bytes; weights aren't compressed, which would spare little.

    Raises:
        ValueError: it can't be written.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _ALWAYS), files[name])
    write_file(path, content.getbuffer())


def unpack(path: Path, largest: float = LARGEST) -> dict[str, bytes]:
    """The files of an archive, by name. Nothing is written.

    Args:
        path: the archive's.
        largest: gigabytes that its files may have together.

    Raises:
        ValueError: it isn't an archive, or holds other files than a model's, or more than that.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(path, entries, largest)
            # No more than an entry's stated size is ever unpacked, and its checksum is compared.
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{path}: it can't be read as an archive ({error}); expected a file that `isthmus export` wrote. Fix: copy "
            "it anew."
        ) from error


def _check(path: Path, entries: list[zipfile.ZipInfo], largest: float) -> None:
    names = [entry.filename for entry in entries]
    if wrong := next((name for name in names if not NAME.fullmatch(name)), None):
        raise ValueError(
            f"{path}: found {wrong[:80]!r} in it; expected manifest.json, README.md and weights (NAME.safetensors) "
            "alone, in no folder. Fix: ask for a file that `isthmus export` wrote."
        )
    if len(set(names)) < len(names) or len(names) > MOST:
        raise ValueError(
            f"{path}: found {len(names)} files of {len(set(names))} names; expected each once, {MOST} at most"
        )
    size = sum(entry.file_size for entry in entries)
    if size > largest * GIGABYTE:
        raise ValueError(
            f"{path}: its files have {size / GIGABYTE:.1f} GB together; expected at most {largest:g}. Fix: if you "
            "trust it, allow more: --largest GB."
        )
