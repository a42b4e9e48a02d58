"""Files and folders that are replaced whole: they are written beside their target, synced to the disk, and renamed.

A rename within one folder is atomic, so a reader finds the earlier content or the new one, whatever ends the writer.
A writer that was killed leaves ``NAME.partial``; the next one of that name writes over it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"
"""What the name of a file or folder ends in while it is written."""

PREVIOUS = ".previous"
"""What the name of a folder ends in that a newer one has replaced."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_file(path: Path, content: bytes | memoryview, place: Callable[[Path, Path], object] | None = None) -> None:
    """Puts a file in the place of whatever has its name, whole or not at all.

    Args:
        path: of the file.
        content: of the file.
        place: renames the written file to its name; by default ``os.replace``.

    Raises:
        ValueError: it can't be written; the earlier file is as it was.
    """
    partial = path.with_name(path.name + PARTIAL)
    with worded(path, len(content)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(partial, content)
            (place or os.replace)(partial, path)
            sync_folder(path.parent)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts a folder of these files in the place of an earlier one, which is kept as ``NAME.previous``.

    A folder can't be renamed over another in one step: between two renames there is none of this name, but both
    ``NAME.previous`` and ``NAME.partial`` are whole.

    Raises:
        ValueError: it can't be written; the earlier folder is as it was.
    """
    with whole_folder(folder, sum(map(len, files.values()))) as partial:
        for name, content in files.items():
            _write(partial / name, content)


@contextmanager
def whole_folder(folder: Path, size: int) -> Iterator[Path]:
    """As :func:`write_folder`, of what the block writes into the folder that it is given, ``size`` bytes in all."""
    partial, previous = (folder.with_name(folder.name + end) for end in (PARTIAL, PREVIOUS))
    with worded(folder, size):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            sync_folder(partial)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            os.rename(folder, previous)
        os.rename(partial, folder)
        sync_folder(folder.parent)


def _write(path: Path, content: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes a rename durable. Not every system lets a folder be opened, or synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def worded(path: Path, size: int) -> Iterator[None]:
    """Says what keeps a file or folder of so many bytes from being written.

    Raises:
        ValueError: in the place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        kept = "what had this name before is whole" if path.exists() else "nothing was left under this name"
        if error.errno not in _FULL:
            raise ValueError(
                f"{path}: it can't be written ({type(error).__name__}: {error}); {kept}. Fix: choose a folder that "
                "can be written to, or fix this one."
            ) from error
        raise ValueError(
            f"{path}: found no room on its disk for {_megabytes(size)} (free: {_megabytes(_free(path))}); {kept}. "
            "Fix: free some space there, then go on."
        ) from error


def _free(path: Path) -> int:
    while not path.is_dir():
        path = path.parent
    return shutil.disk_usage(path).free


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
