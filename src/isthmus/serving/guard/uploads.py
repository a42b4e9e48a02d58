"""A folder for each request, gone with it; what a server that was killed has left goes when the next one starts."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "isthmus-uploads-"
KEPT_BYTES, KEPT_FILES = 1 << 30, 1024
"""Of all uploads of pages that no question has named yet."""


class Uploads:
    """Folders of requests, within one that belongs to this server. Others of the machine can't read them."""

    def __init__(self) -> None:
        above = Path(tempfile.gettempdir())
        _sweep(above)
        new = Path(tempfile.mkdtemp(prefix="isthmus-new-", dir=above))
        self._lock = _locked(new)
        self.root = new.rename(above / new.name.replace("isthmus-new-", PREFIX))  # locked when others can sweep it

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder that is removed at the end of the block, however that ends."""
        path = Path(tempfile.mkdtemp(dir=self.root))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Removes all."""
        shutil.rmtree(self.root, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for files of no upload, which is removed at the end of the block, or when the next server starts."""
    uploads = Uploads()
    try:
        yield uploads.root
    finally:
        uploads.close()


def has_room(folder: Path, size: int, seconds: float) -> bool:
    """Whether so many bytes more may be uploaded for pages. Removes what uploads that broke off have left.

    Args:
        folder: of all uploads; those that came whole are in folders below it.
        size: of the next one.
        seconds: in which each must have come.
    """
    count = 0
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
            if not path.is_dir() and path.parent == folder and time.time() - found.st_mtime > seconds:
                path.unlink()
            elif not path.is_dir():
                count, size = count + 1, size + found.st_size
        except FileNotFoundError:  # a question has just taken it
            continue
    return count < KEPT_FILES and size <= KEPT_BYTES


def _locked(root: Path) -> int | None:
    """Locks a server's folder, as long as this process lives; None if its server lives."""
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _sweep(above: Path) -> None:
    """Removes the folders of servers that no longer live."""
    for root in above.glob(f"{PREFIX}*"):
        try:
            if root.lstat().st_uid == os.getuid() and (lock := _locked(root)) is not None:
                shutil.rmtree(root, ignore_errors=True)
                os.close(lock)
        except OSError:  # another server was faster, or it's no folder
            continue
