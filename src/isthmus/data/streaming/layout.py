"""The files beside a set's shards: ``shards.json``, which marks the set as complete, and ``index.npy``."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from isthmus.data.conversations.sources import media_label
from isthmus.data.streaming.storage import Storage
from isthmus.modalities import MEDIA

MANIFEST = "shards.json"
INDEX = "index.npy"
VERSION = 1

ENTRY = np.dtype([("offset", "<i8"), ("size", "<i8"), ("crc", "<u4"), ("media", "u1")])
"""A conversation in its shard: first byte, number of bytes, their CRC-32, and a bit for each modality."""

BITS = 8 * ENTRY["media"].itemsize
Entries = np.ndarray[Any, Any]
_FIX = "Fix: convert the set again, or copy it anew"


@dataclass(frozen=True)
class ShardFile:
    """A shard: its file, its size, and its number of conversations."""

    name: str
    bytes: int
    conversations: int


@dataclass
class Manifest:
    """The content of ``shards.json``.

    Attributes:
        shards: the finished shards.
        complete: whether these are all.
        index: the digest of ``index.npy``; empty until the set is complete.
        conversion: the conversion's job and progress.
        media: the modalities that the bits of entries stand for, the lowest first.
    """

    shards: list[ShardFile] = field(default_factory=list)
    complete: bool = False
    index: str = ""
    conversion: dict[str, Any] = field(default_factory=dict)
    media: list[str] = field(default_factory=lambda: list(map(str, MEDIA)))

    def bits(self, media: Collection[str]) -> int:
        """The bits of these modalities; a new one takes the next bit.

        Raises:
            ValueError: there is none left.
        """
        self.media += sorted({str(modality) for modality in media} - set(self.media))
        if len(self.media) > BITS:
            raise ValueError(
                f"shards: found the modalities {', '.join(self.media)}; expected at most {BITS} in a set. Fix: convert "
                "the rarer ones to a set of their own."
            )
        return sum(1 << bit for bit, modality in enumerate(self.media) if modality in media)

    def label(self, bits: int) -> str:
        """The modalities of these bits, as :func:`~isthmus.data.conversations.sources.media_label` writes them."""
        return media_label([modality for bit, modality in enumerate(self.media) if bits >> bit & 1])

    def write(self, storage: Storage) -> None:
        """Writes ``shards.json``."""
        content = {"format": "isthmus shards", "version": VERSION, **asdict(self)}
        storage.write(MANIFEST, [json.dumps(content, indent=1, ensure_ascii=False).encode()])


def read_manifest(storage: Storage) -> Manifest | None:
    """Reads ``shards.json``; None if there is none.

    Raises:
        ValueError: it has another format or version.
    """
    where = storage.where(MANIFEST)
    if storage.size(MANIFEST) is None:
        return None
    try:
        content = json.loads(storage.read(MANIFEST))
        if content["format"] != "isthmus shards" or content["version"] != VERSION:
            raise ValueError(f"it is of {content['format']!r}, version {content['version']!r}")
        listed = content["shards"]
        shards = [ShardFile(str(one["name"]), int(one["bytes"]), int(one["conversations"])) for one in listed]
        names = [shard.name for shard in shards]
        if any("/" in name or "\\" in name or not name.endswith(".tar") for name in names):
            raise ValueError("a shard's name leads elsewhere")
        conversion = content["conversion"]
        if not isinstance(conversion, Mapping) or len(set(names)) != len(names):
            raise ValueError("a shard is there twice, or the conversion isn't an object")
        media = [str(modality) for modality in content.get("media", MEDIA)]  # sets of earlier versions have these alone
        return Manifest(shards, bool(content["complete"]), str(content["index"]), dict(conversion), media)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where}: found no description of shards ({error}); expected one of version {VERSION}. {_FIX}."
        ) from error


def write_index(storage: Storage, entries: Sequence[Entries]) -> str:
    """Writes ``index.npy``, the concatenated entries of the shards; returns its digest."""
    file = io.BytesIO()
    np.save(file, np.concatenate([np.empty(0, ENTRY), *entries]), allow_pickle=False)
    storage.write(INDEX, [file.getvalue()])
    return _digest(file.getvalue())


def read_index(storage: Storage, manifest: Manifest) -> Entries:
    """Reads ``index.npy`` (conversations,) of :data:`ENTRY`.

    Raises:
        ValueError: it is absent, truncated or changed, or doesn't fit the shards.
    """
    where = storage.where(INDEX)
    expected = sum(shard.conversations for shard in manifest.shards)
    try:
        data = storage.read(INDEX)
        if _digest(data) != manifest.index:
            raise ValueError(f"its {len(data)} bytes don't have the digest in {MANIFEST}")
        entries: Entries = np.load(io.BytesIO(data), allow_pickle=False)
        if entries.dtype != ENTRY or entries.shape != (expected,):
            raise ValueError(f"it holds {entries.shape} {entries.dtype}")
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{where}: found no whole index ({error}); expected one of {expected} conversations. {_FIX}."
        ) from error
    return entries


def check_sizes(storage: Storage, manifest: Manifest) -> None:
    """Compares the shards' sizes with ``shards.json``.

    Raises:
        ValueError: a shard is absent or of another size.
    """
    listed = storage.sizes()
    for shard in manifest.shards:
        size = listed[shard.name] if shard.name in listed else storage.size(shard.name)
        if size != shard.bytes:
            found = "no file" if size is None else f"{size} bytes"
            raise ValueError(
                f"{storage.where(shard.name)}: found {found}; expected a shard of {shard.bytes} bytes. {_FIX}."
            )


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
