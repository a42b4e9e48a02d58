"""A local cache of a remote store's shards: each is fetched once for all processes of a machine; LRU eviction."""

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
        storage: holds the shards.
        version: distinguishes this set from earlier sets at the same address.
        folder: for the copies, with a subfolder for each set.
        keep: number of shards that are kept, the most recently used.
    """

    def __init__(self, storage: Storage, version: str, folder: str | Path, keep: int) -> None:
        name = blake2b(f"{storage.address}\n{version}".encode(), digest_size=8).hexdigest()
        self.storage = storage
        self.folder = user_path(folder) / name
        self.keep = keep
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str, size: int, begin: int, end: int) -> bytes:
        """A shard's bytes ``begin`` to ``end``, exclusive; if the shard isn't in the folder, all of it is fetched.

        Raises:
            DataError: it can't be fetched, or is incomplete.
        """
        path = self.folder / name
        while True:
            try:
                with path.open("rb") as file:
                    file.seek(begin)
                    data = file.read(end - begin)
                os.utime(path)
                return data
            except FileNotFoundError:  # not fetched yet, or just evicted by another process
                self._fetch(path, size)

    def _fetch(self, path: Path, size: int) -> None:
        import fcntl

        # One process fetches, and the others wait. If a process is killed, its lock is released.
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
        self._evict(path)

    def _evict(self, newest: Path) -> None:
        copies: list[tuple[float, Path]] = []
        for path in self.folder.glob("*.tar"):
            try:
                copies.append((path.stat().st_mtime, path))
            except FileNotFoundError:  # another process has evicted it
                continue
        copies.sort()
        for _, path in copies[: max(0, len(copies) - self.keep)]:
            if path != newest:
                path.unlink(missing_ok=True)
