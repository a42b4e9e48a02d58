"""Copies of a far store's shards on this machine: each fetched once for all of its processes, the oldest given up."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from isthmus.data.errors import DataError, Fault
from isthmus.data.streaming.storage import Storage
from isthmus.paths import user_path


class LocalCopies:
    """Whole shards in a folder that processes of one machine share.

    Args:
        storage: where the shards are.
        version: tells this set from what stood at the same address before.
        folder: holds the copies, in a folder of its own for each set.
        keep: how many shards stay, those used last.
    """

    def __init__(self, storage: Storage, version: str, folder: str | Path, keep: int) -> None:
        name = blake2b(f"{storage.address}\n{version}".encode(), digest_size=8).hexdigest()
        self.storage = storage
        self.folder = user_path(folder) / name
        self.keep = keep
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str, size: int, begin: int, end: int) -> bytes:
        """A shard's bytes from ``begin`` to before ``end``; the whole shard is fetched where it isn't there.

        Raises:
            DataError: it can't be fetched, or not all of it.
        """
        path = self.folder / name
        while True:
            try:
                with path.open("rb") as file:
                    file.seek(begin)
                    data = file.read(end - begin)
                os.utime(path)
                return data
            except FileNotFoundError:  # not yet there, or given up by another process a moment ago
                self._fetch(path, size)

    def _fetch(self, path: Path, size: int) -> None:
        import fcntl

        # One process fetches, the others wait for it. A lock that a killed process held is free again.
        with (self.folder / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return
            part = path.with_suffix(".partial")
            self.storage.fetch(path.name, str(part))
            if part.stat().st_size != size:
                raise DataError(
                    Fault.CORRUPT,
                    f"{self.storage.where(path.name)}: found {part.stat().st_size} bytes; expected a shard of {size}. "
                    "Fix: copy the shard anew, or convert the set again.",
                )
            os.replace(part, path)
        self._give_up(path)

    def _give_up(self, newest: Path) -> None:
        held: list[tuple[float, Path]] = []
        for path in self.folder.glob("*.tar"):
            try:
                held.append((path.stat().st_mtime, path))
            except FileNotFoundError:  # another process was first
                continue
        held.sort()
        for _, path in held[: max(0, len(held) - self.keep)]:
            if path != newest:
                path.unlink(missing_ok=True)
