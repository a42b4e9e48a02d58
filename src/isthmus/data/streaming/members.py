"""A conversation as files of a tar archive in WebDataset's layout: ``000000012.json`` and ``000000012.0.png``.

Any tar tool can read a shard. Unpacked, its JSON files have the format of lines of
:class:`~isthmus.data.conversations.sources.JsonLines`, with their media beside them. Nothing is pickled.
"""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from isthmus.data.conversations.schema import Conversation, parse_conversation
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.stored import StoredFile
from isthmus.data.streaming.records import Record
from isthmus.modalities import is_medium

END = bytes(2 * tarfile.BLOCKSIZE)
"""The end of a tar archive."""


def pack(key: str, record: Record) -> bytes:
    """A conversation's part of a shard. The bytes depend only on the conversation, not on time or machine.

    Args:
        key: the prefix of its files' names, without a dot.
        record: the conversation and the bytes of its media.
    """
    names = [f"{key}.{place}{suffix}" for place, (suffix, _) in enumerate(record.files)]
    text = json.dumps(record.named(names), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    files = [(f"{key}.json", text), *zip(names, (data for _, data in record.files), strict=True)]
    return b"".join(_file(name, data) for name, data in files)


def _file(name: str, data: bytes) -> bytes:
    head = tarfile.TarInfo(name)  # no time, no owner
    head.size = len(data)
    return head.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def unpack(data: bytes, where: str) -> Conversation:
    """Part of a shard -> its conversation, whose media are :class:`~isthmus.data.media.stored.StoredFile`.

    Only files of this part can be its media, so that no name refers to any other file.

    Raises:
        DataError: it isn't the part of one conversation.
    """
    files = files_in(data, where)
    records = [name for name in files if name.endswith(".json") and name.count(".") == 1]
    if len(records) != 1:
        raise _broken(where, f"found {len(records)} conversations among {', '.join(files)[:100] or 'no files'}")
    try:
        raw = json.loads(files.pop(records[0]))
    except (ValueError, RecursionError) as error:
        raise _broken(where, f"found no JSON in {records[0]} ({error})") from error
    stored = {name: StoredFile(f"{where}: {name}", content) for name, content in files.items()}
    return parse_conversation(_with_files(raw, stored, where), where)


def files_in(data: bytes, where: str) -> dict[str, bytes]:
    """Part of a tar archive -> its files by name.

    Raises:
        DataError: it is truncated, or has members that aren't plain files.
    """
    files: dict[str, bytes] = {}
    try:
        # The library reads headers; contents are sliced here, so that a sparse file can't be expanded.
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                begin, end = member.offset_data, member.offset_data + member.size
                if not member.isreg() or member.issparse() or end > len(data):
                    raise _broken(where, f"found {member.name!r}, which isn't a plain file or is truncated")
                files[member.name] = data[begin:end]
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise _broken(where, f"found no files ({error})") from error
    return files


def _with_files(raw: Any, stored: dict[str, StoredFile], where: str) -> Any:
    """The record with file names replaced by files; malformed records are left to the parser, which refuses them."""
    if not isinstance(raw, dict) or not isinstance(raw.get("messages"), list):
        return raw
    for message in raw["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        for item in content if isinstance(content, list) else ():
            kind = item.get("type") if isinstance(item, dict) else None
            if not is_medium(kind) or item.get(kind) is None:
                continue
            name = item[kind]
            if not isinstance(name, str) or name not in stored:
                raise _broken(where, f"found the medium {str(name)[:80]!r}, which isn't beside its conversation")
            item[kind] = stored[name]
    return raw


def _broken(where: str, found: str) -> DataError:
    return DataError(
        Fault.CORRUPT,
        f"{where}: {found}; expected the files of one conversation. Fix: copy the archive anew, or, of shards, convert "
        "the set again.",
    )
