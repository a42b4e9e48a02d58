"""Shards as a source of conversations."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import TEXT, ConversationSource
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import DEFAULT_LIMITS
from isthmus.data.media.limits import MediaLimits
from isthmus.data.sampling.dealing import Load, load_of
from isthmus.data.sampling.orders import Chunks
from isthmus.data.streaming.copies import LocalCopies
from isthmus.data.streaming.layout import INDEX, MANIFEST, check_sizes, read_index, read_manifest
from isthmus.data.streaming.members import unpack
from isthmus.data.streaming.storage import Storage


class Shards(ConversationSource):
    """A set that ``isthmus data convert --to shards`` wrote. Each conversation takes 21 bytes of memory.

    A conversation is one read of consecutive bytes, from a disk or, by a range request, from an object store. For a
    remote store, ``window`` makes training read shard by shard, and ``copies`` caches the current shards on a disk.

    Args:
        path: the folder of the shards, or its URL for fsspec (``s3://bucket/set``).
        window: number of shards that are mixed at a time; all if None.
        copies: a folder on this machine for copies of shards, which its processes share.
        keep: number of shards that are kept there.
        options: of the file system, such as ``{"anon": true}`` for ``s3``.
        limits: caps on the bytes of a conversation; limits of media are checked when they are decoded.

    Raises:
        ValueError: there are no shards, the conversion is unfinished, shards or the index are absent, truncated or
            changed, or ``keep`` is too small for the window.
    """

    def __init__(
        self,
        path: str,
        window: int | None = None,
        copies: Path | None = None,
        keep: int = 16,
        options: Mapping[str, Any] | None = None,
        limits: MediaLimits = DEFAULT_LIMITS,
    ) -> None:
        self.storage = Storage(str(path), options)
        self.limits = limits
        self.name = self.storage.address.rpartition("/")[2]
        manifest = read_manifest(self.storage)
        if manifest is None or not manifest.complete:
            found = f"no {MANIFEST}" if manifest is None else "an unfinished conversion"
            raise ValueError(
                f"{self.storage.address}: found {found}; expected a set written by isthmus data convert. Fix: correct "
                "the path, or run the conversion again to resume it."
            )
        # Workers prefetch from the next window while the last batches of this one are made.
        needed = min(2 * window, len(manifest.shards)) if window else len(manifest.shards)
        if copies is not None and keep < needed:
            raise ValueError(
                f"{self.storage.address}: keep: found {keep} of {len(manifest.shards)} shards with a window of "
                f"{window}; expected at least {needed}, two windows or all; otherwise shards are fetched repeatedly. "
                "Fix: raise keep, or give a smaller window."
            )
        check_sizes(self.storage, manifest)
        self.manifest = manifest
        self._entries = read_index(self.storage, manifest)
        self._ends = list(accumulate(shard.conversations for shard in manifest.shards))
        sizes = tuple(shard.conversations for shard in manifest.shards)
        self._chunks = None if window is None else Chunks(sizes, window)
        self._copies = None if copies is None else LocalCopies(self.storage, manifest.index, copies, keep)
        if not len(self):
            raise ValueError(f"{self.storage.address}: found no conversations; expected some. Fix: convert a set.")

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> dict[str, Any]:
        return {name: own for name, own in vars(self).items() if name != "_entries"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A data worker reads the index anew."""
        vars(self).update(state)
        self._entries = read_index(self.storage, self.manifest)

    def __getitem__(self, index: int) -> Conversation:
        """The ``index``-th conversation, its media not yet decoded.

        Raises:
            DataError: its shard can't be read, or its checksum is wrong.
        """
        shard = self.manifest.shards[bisect_right(self._ends, index % len(self))]
        entry, where = self._entries[index], self.where(index)
        begin, size = int(entry["offset"]), int(entry["size"])
        self.limits.check(where, bytes=size)
        if self._copies is None:
            data = self.storage.read(shard.name, begin, begin + size)
        else:
            data = self._copies.read(shard.name, shard.bytes, begin, begin + size)
        if zlib.crc32(data) != int(entry["crc"]):
            raise DataError(
                Fault.CORRUPT,
                f"{where}: found {len(data)} bytes with another checksum; expected the {size} that were written from "
                f"byte {begin} of the shard on. Fix: copy the shard anew, or convert the set again.",
            )
        return unpack(data, where)

    @property
    def files(self) -> Sequence[Path]:
        """The index, which holds the checksum of every conversation; where it is on this machine."""
        return [Path(self.storage.address, name) for name in (MANIFEST, INDEX)] if self.storage.is_local else ()

    def where(self, index: int) -> str:
        index = range(len(self))[index]
        return f"{self.storage.where(self.manifest.shards[bisect_right(self._ends, index)].name)}[{index:09d}]"

    @property
    def chunks(self) -> Chunks | None:
        return self._chunks

    def load(self, index: int) -> Load:
        """By the index alone, which knows what kinds of media there are, and how long words by themselves are."""
        entry = self._entries[index]
        label = self.manifest.label(int(entry["media"]))
        return load_of(int(entry["size"]), {}, {}) if label == TEXT else {label: 1.0}

    def labels(self) -> Sequence[str]:
        named = {bits: self.manifest.label(int(bits)) for bits in set(self._entries["media"].tolist())}
        return [named[bits] for bits in self._entries["media"].tolist()]
