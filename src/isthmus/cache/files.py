"""An index of file digests by path, size and modification time, so that an unchanged file is read only once."""

from __future__ import annotations

import os
import sqlite3
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

INDEX = "files.sqlite"
CHUNK = 1 << 20
SETTLED = 2_000_000_000
"""A file is indexed once its last change is this many nanoseconds old: a second change within one tick of the file
system's clock that keeps the size would otherwise not be detected."""


class FileDigests:
    """Digests of files, stored in the cache's folder. Any number of processes may use one folder.

    If the index can't be read or written, files are read instead: the index only saves time.

    Args:
        folder: the cache's folder.

    Attributes:
        read: how many files this process has read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read = 0
        self._process = os.getpid()
        self._connection: sqlite3.Connection | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_connection": None}

    def digest(self, path: Path) -> str:
        """The digest of a file's bytes, from the index if the file's size and modification time are unchanged.

        Raises:
            OSError: the file can't be read.
        """
        found = path.stat()
        name = str(path.resolve())
        try:
            query = "select digest from files where path = ? and size = ? and changed = ?"
            row = self._open().execute(query, (name, found.st_size, found.st_mtime_ns)).fetchone()
        except sqlite3.Error:
            row = None
        if row is not None:
            return str(row[0])
        self.read += 1
        digest = file_digest(path)
        if time.time_ns() - found.st_mtime_ns > SETTLED:
            try:
                values = (name, found.st_size, found.st_mtime_ns, digest)
                self._open().execute("insert or replace into files values (?, ?, ?, ?)", values)
            except sqlite3.Error:
                pass
        return digest

    def _open(self) -> sqlite3.Connection:
        if self._process != os.getpid():  # a connection must not cross a fork
            self._process, self._connection = os.getpid(), None
        if self._connection is None:
            connection = sqlite3.connect(self.folder / INDEX, timeout=10.0, isolation_level=None)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = off")  # entries lost in a power failure are computed again
            connection.execute(
                "create table if not exists files "
                "(path text primary key, size integer, changed integer, digest text) without rowid"
            )
            self._connection = connection
        return self._connection


def file_digest(path: Path) -> str:
    """The digest of a file's bytes."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
