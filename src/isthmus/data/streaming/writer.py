"""Writes a set as shards; an interrupted conversion resumes after its last complete shard."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import Any

import numpy as np

from isthmus.data.streaming.layout import (
    ENTRY,
    INDEX,
    MANIFEST,
    Entries,
    Manifest,
    ShardFile,
    check_sizes,
    read_manifest,
    write_index,
)
from isthmus.data.streaming.members import END, pack, unpack
from isthmus.data.streaming.records import Record, media_in
from isthmus.data.streaming.storage import Storage

LARGEST = 256 << 20
"""Bytes of a shard: large enough for efficient reads from a remote store, small enough for memory."""


class ShardWriter:
    """Writes conversations in the given order.

    ``shards.json`` is written after each shard, and at the end marks the set as complete: readers refuse incomplete
    sets, and shards that aren't listed in it are ignored.

    Args:
        storage: the folder; if it has files of another conversion, it is refused.
        job: describes the conversion. If the folder has an unfinished conversion of the same job, it is resumed.
        largest: bytes of a shard, unless a single conversation is larger.

    Raises:
        ValueError: the folder holds another set, or other files.
    """

    def __init__(self, storage: Storage, job: dict[str, Any], largest: int = LARGEST) -> None:
        if largest < 1:
            raise ValueError(f"largest: found {largest}; expected bytes of a shard, above 0. Fix: raise it.")
        self.storage = storage
        self.largest = largest
        job = {**job, "largest": largest}
        found = read_manifest(storage)
        if found is None:
            _check_empty(storage)
            found = Manifest(conversion={"job": job, "progress": {}})
            found.write(storage)  # marks the folder as this conversion's
        elif found.conversion.get("job") != job:
            raise ValueError(
                f"{storage.address}: found shards of {found.conversion.get('job')}; expected an empty folder, or "
                f"shards of {job}. Fix: name another folder, or remove this one first."
            )
        self.manifest = found
        check_sizes(storage, found)
        self._done: list[Entries] = [self._entries(shard) for shard in found.shards] if self.is_unfinished else []
        self._parts: list[bytes] = []
        self._open: list[tuple[int, int, int, int]] = []
        self._bytes = 0
        self._count = sum(shard.conversations for shard in found.shards)
        self._marked: dict[str, Any] = dict(self.progress)

    @property
    def is_unfinished(self) -> bool:
        """Whether anything remains to be written."""
        return not self.manifest.complete or self.storage.size(INDEX) is None

    @property
    def progress(self) -> dict[str, Any]:
        """The last mark before the last finished shard; empty at the start."""
        found: dict[str, Any] = self.manifest.conversion["progress"]
        return found

    def add(self, record: Record) -> None:
        """Writes one conversation."""
        assert not self.manifest.complete, "nothing can be added to a complete set"
        data = pack(f"{self._count:09d}", record)
        if self._parts and self._bytes + len(data) > self.largest:
            self._finish_shard()
        self._open.append((self._bytes, len(data), zlib.crc32(data), self.manifest.bits(record.media)))
        self._parts.append(data)
        self._bytes += len(data)
        self._count += 1

    def mark(self, progress: dict[str, Any]) -> None:
        """Records the progress of the conversion after the conversations added so far."""
        self._marked = progress

    def finish(self) -> None:
        """Writes the last shard and the index, and marks the set as complete."""
        if self._parts or not self.manifest.shards:
            self._finish_shard()
        self.manifest.conversion["progress"] = self._marked
        self.manifest.index = write_index(self.storage, self._done)
        self.manifest.complete = True
        self.manifest.write(self.storage)

    def _finish_shard(self) -> None:
        name = f"{len(self.manifest.shards):06d}.tar"
        self.storage.write(name, [*self._parts, END])
        self.manifest.shards.append(ShardFile(name, self._bytes + len(END), len(self._open)))
        self.manifest.conversion["progress"] = self._marked
        self.manifest.write(self.storage)
        self._done.append(np.array(self._open, ENTRY))
        self._parts, self._open, self._bytes = [], [], 0

    def _entries(self, shard: ShardFile) -> Entries:
        """The index entries of an earlier run's shard, computed from the shard."""
        where, data = self.storage.where(shard.name), self.storage.read(shard.name)
        starts: dict[str, int] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
                for member in archive:
                    starts.setdefault(member.name.partition(".")[0], member.offset)
        except tarfile.TarError as error:
            raise _damaged(where, f"no archive ({error})", shard) from error
        begins = list(starts.values())
        found = []
        for begin, end in zip(begins, [*begins[1:], len(data) - len(END)], strict=True):
            part = data[begin:end]
            found.append((begin, len(part), zlib.crc32(part), self.manifest.bits(media_in(unpack(part, where)))))
        if len(found) != shard.conversations:
            raise _damaged(where, f"{len(found)} conversations", shard)
        return np.array(found, ENTRY)


def _damaged(where: str, found: str, shard: ShardFile) -> ValueError:
    return ValueError(
        f"{where}: found {found}; expected a shard of {shard.conversations} conversations. Fix: remove the folder and "
        "convert again."
    )


def _check_empty(storage: Storage) -> None:
    others = sorted(name for name in storage.sizes() if name != f"{MANIFEST}.partial")
    if others:
        raise ValueError(
            f"{storage.address}: found {', '.join(others[:3])}; expected an empty folder, or none. Fix: name another."
        )
