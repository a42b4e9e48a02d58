"""Tensors on disk by key: safetensors in a few SQLite files, for many processes at once."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.utils.data import get_worker_info

from isthmus.paths import user_path

log = logging.getLogger(__name__)

SHARDS = 8
"""The number of SQLite files: writers of different files don't wait for each other."""

PATIENCE = 60.0
"""Seconds that a writer waits for another writer of the same file."""

NOTED = 256
"""Reads between two updates of the times of last use: an update for each read would be slower than the read."""

SPARE = 0.05
"""The share of ``max_bytes`` that is freed at once, so that not every write has to search for the oldest values."""

Tensors = dict[str, Tensor]


class TensorStore:
    """Tensors by key. If a process is killed during a write, that write is absent and all earlier ones are complete.

    SQLite's write-ahead log makes each write atomic and orders writers. Its files must be on a disk of this machine:
    the log doesn't work over a network. A checksum guards each value: a damaged one counts as absent. If the folder
    can't be read or written any more (it was removed, or its disk became read-only), that is told once, all values
    count as absent, and nothing more is added.

    Args:
        folder: created if it doesn't exist.
        max_bytes: the limit of all files together. When it is reached, the least recently used values are dropped,
            except those that any process has used since this object was made: a run reads its items in the same order
            in each epoch, so the oldest of them is the next one needed. If there are no others, nothing more is added.

    Raises:
        ValueError: ``max_bytes`` below 1, or a folder that can't be made.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ValueError(f"cache.max_bytes: found {max_bytes}; expected at least 1. Fix: raise it.")
        self.folder = user_path(folder)
        self.max_bytes = max_bytes
        self.is_full = False
        self.is_gone = False
        self.dropped = 0
        self.began = time.time()
        self._noted: set[str] = set()
        self._process = os.getpid()
        self._connections: dict[Path, sqlite3.Connection] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cache.folder: {folder}: {error}. Fix: name a folder that can be written.") from error

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_connections": {}, "_noted": set()}

    def __len__(self) -> int:
        """How many values it holds."""
        shards = [self._shard(number) for number in range(SHARDS)]
        return sum(self._open(file).execute("select count(*) from held").fetchone()[0] for file in shards)

    def get(self, key: str) -> Tensors | None:
        """The tensors under a key; None where there are none, or where they are damaged."""
        if self.is_gone:
            return None
        file = self._file(key)
        try:
            row = self._open(file).execute("select sum, value from held where key = ?", (key,)).fetchone()
        except (sqlite3.DatabaseError, OSError) as error:
            self._failed(file, error)
            return None
        if row is None or zlib.crc32(row[1]) != row[0]:
            return None
        self._noted.add(key)
        if len(self._noted) >= NOTED:
            self._note()
        try:
            return load(row[1])
        except SafetensorError:
            return None

    def put(self, values: Mapping[str, Tensors]) -> bool:
        """Adds or replaces values, in one transaction a file. Returns whether there was room."""
        shards: dict[Path, list[tuple[str, int, bytes]]] = {}
        size = 0
        for key, tensors in values.items():
            value = save({name: tensor.contiguous() for name, tensor in tensors.items()})
            shards.setdefault(self._file(key), []).append((key, zlib.crc32(value), value))
            size += len(value)
        try:
            if self.is_gone or not self._has_room(size):
                return False
        except (sqlite3.DatabaseError, OSError) as error:
            self._failed(self.folder, error)
            return False
        for file, rows in shards.items():
            connection = None
            try:
                connection = self._open(file)
                connection.execute("begin immediate")
                connection.executemany("insert or replace into held values (?, ?, ?)", rows)
                used = [(key, time.time(), len(value)) for key, _, value in rows]
                connection.executemany("insert or replace into uses values (?, ?, ?)", used)
                connection.execute("commit")
            except sqlite3.OperationalError as error:  # no space, a read-only folder, a lock that is never released
                if connection is None:
                    self._failed(file, error)
                    return False
                if connection.in_transaction:
                    connection.execute("rollback")
                log.warning("cache: %s: %s; nothing more is added in this run", file, error)
                self.is_full = True
                return False
            except (sqlite3.DatabaseError, OSError) as error:
                self._failed(file, error)
                return False
        return True

    def size(self) -> int:
        """Bytes of its files and their logs, without the free pages that dropped values left.

        Raises:
            ValueError: a file isn't the cache's, or can't be read.
        """
        try:
            return self._size()
        except sqlite3.DatabaseError as error:
            raise _damaged(self.folder, error) from error

    def _size(self) -> int:
        total = 0
        for number in range(SHARDS):
            file = self._shard(number)
            connection = self._open(file)
            pages, free, page = (
                connection.execute(f"pragma {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            log_file = file.with_name(f"{file.name}-wal")
            total += (pages - free) * page + (log_file.stat().st_size if log_file.exists() else 0)
        return int(total)

    def close(self) -> None:
        """Closes the files; the next use opens them again."""
        if self._process == os.getpid():
            self._note()
        for connection in self._connections.values():
            connection.close()
        self._connections = {}

    def _has_room(self, more: int) -> bool:
        if self.is_full:
            return False
        missing = self._size() + more - self.max_bytes
        if missing > 0 and self._drop(missing + int(SPARE * self.max_bytes)) < missing:
            self.is_full = True
            log.warning("cache: %s has reached max_bytes = %d; nothing more is added", self.folder, self.max_bytes)
        return not self.is_full

    def _drop(self, wanted: int) -> int:
        """Drops the least recently used values, of those unused since this object was made. Returns bytes freed."""
        self._note()
        query = "select used, size, key from uses where used < ? order by used"
        old: list[tuple[float, int, str]] = []
        for number in range(SHARDS):
            old += self._open(self._shard(number)).execute(query, (self.began,)).fetchall()
        chosen: dict[Path, list[tuple[str, float]]] = {}
        count = freed = 0
        for used, size, key in sorted(old):
            if freed >= wanted:
                break
            chosen.setdefault(self._file(key), []).append((key, used))
            freed += size
            count += 1
        try:
            for file, keys in chosen.items():
                connection = self._open(file)
                connection.execute("begin immediate")
                # Another process may have used one in the meantime.
                gone = [(key,) for key, used in keys if _used(connection, key) == used]
                connection.executemany("delete from held where key = ?", gone)
                connection.executemany("delete from uses where key = ?", gone)
                connection.execute("commit")
                # Otherwise the log's size would still include the dropped values.
                connection.execute("pragma wal_checkpoint(truncate)")
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("rollback")
            log.warning("cache: %s: %s; nothing could be dropped", file, error)
            return 0
        if count:
            self.dropped += count
            log.info("cache: %s: %d values that were used longest ago are dropped", self.folder, count)
        return freed

    def _failed(self, file: Path, error: Exception) -> None:
        """Goes on without the cache where its folder can't be used.

        Raises:
            ValueError: it can, and a file in it is no cache's: whoever put it there should know.
        """
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            raise _damaged(file, error) from error
        if not self.is_gone and get_worker_info() is None:  # the run's own process tells it
            log.warning(
                "cache: %s: found a folder that can't be used any more (%s); expected one that can be read and "
                "written. The run goes on and computes what it needs. Fix: for the next run, see to the disk, or "
                "choose another cache.folder.",
                self.folder,
                error,
            )
        self.is_gone = True

    def _note(self) -> None:
        """Updates the times of last use. If that fails, the values only look older than they are."""
        shards: dict[Path, list[tuple[float, str]]] = {}
        for key in self._noted:
            shards.setdefault(self._file(key), []).append((time.time(), key))
        self._noted = set()
        for file, rows in shards.items():
            connection = None
            try:
                connection = self._open(file)
                connection.execute("begin immediate")
                connection.executemany("update uses set used = ? where key = ?", rows)
                connection.execute("commit")
            except (sqlite3.DatabaseError, OSError):
                if connection is not None and connection.in_transaction:
                    connection.execute("rollback")

    def _file(self, key: str) -> Path:
        return self._shard(zlib.crc32(key.encode()) % SHARDS)

    def _shard(self, number: int) -> Path:
        return self.folder / f"{number}.sqlite"

    def _open(self, file: Path) -> sqlite3.Connection:
        if self._process != os.getpid():  # a connection must not cross a fork; closing it here would harm the parent's
            self._process, self._connections, self._noted = os.getpid(), {}, set()
        if file not in self._connections:
            if not file.exists():
                _create(file)
            connection = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            # A power failure may undo the last writes, but doesn't damage earlier ones.
            connection.execute("pragma synchronous = normal")
            _add_uses(connection)
            self._connections[file] = connection
        return self._connections[file]


def _create(file: Path) -> None:
    """Creates a file under another name and links it into place: of two processes, the second keeps the first's."""
    aside = file.with_name(f"new-{uuid4().hex}")
    connection = sqlite3.connect(aside, isolation_level=None)
    connection.execute("pragma page_size = 16384")
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table held (key text primary key, sum integer, value blob)")
    connection.close()
    try:
        os.link(aside, file)
    except FileExistsError:
        pass
    finally:
        aside.unlink()


def _add_uses(connection: sqlite3.Connection) -> None:
    """Adds the table of times of last use. It is separate because updating a row rewrites the whole row."""
    if connection.execute("select count(*) from sqlite_master where name = 'uses'").fetchone()[0]:
        return
    connection.execute("begin immediate")
    connection.execute("create table if not exists uses (key text primary key, used real, size integer) without rowid")
    connection.execute("insert or ignore into uses select key, 0.0, length(value) from held")
    connection.execute("commit")


def _used(connection: sqlite3.Connection, key: str) -> float | None:
    row = connection.execute("select used from uses where key = ?", (key,)).fetchone()
    return None if row is None else float(row[0])


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file}: found no readable cache ({error}); expected SQLite. Fix: delete the cache's folder.")
