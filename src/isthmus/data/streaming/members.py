"""A conversation as files of a tar archive, as WebDataset lays them out: ``000000012.json`` and ``000000012.0.png``.

Any tool that reads tar reads a shard. Unpacked, its JSON files are lines of
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
from isthmus.types import MEDIA

END = bytes(2 * tarfile.BLOCKSIZE)
"""What a tar archive ends with."""


def pack(key: str, record: Record) -> bytes:
    """A conversation's part of a shard. The same conversation gives the same bytes on every day and machine.

    Args:
        key: what its files' names begin with; it holds no dot.
        record: the conversation, its media still apart.
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

    A conversation's media are files of this part alone, so that no name leads anywhere else.

    Raises:
        DataError: it isn't one conversation's part.
    """
    files = files_in(data, where)
    told = [name for name in files if name.endswith(".json") and name.count(".") == 1]
    if len(told) != 1:
        raise _broken(where, f"found {len(told)} conversations among {', '.join(files)[:100] or 'no files'}")
    try:
        raw = json.loads(files.pop(told[0]))
    except (ValueError, RecursionError) as error:
        raise _broken(where, f"found no JSON in {told[0]} ({error})") from error
    stored = {name: StoredFile(f"{where}: {name}", content) for name, content in files.items()}
    return parse_conversation(_with_files(raw, stored, where), where)


def files_in(data: bytes, where: str) -> dict[str, bytes]:
    """Part of a tar archive -> its files by name.

    Raises:
        DataError: it is cut off, or holds what is no plain file.
    """
    files: dict[str, bytes] = {}
    try:
        # Headers are read by the library; contents are cut out here, so that a sparse file can't unfold.
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                begin, end = member.offset_data, member.offset_data + member.size
                if not member.isreg() or member.issparse() or end > len(data):
                    raise _broken(where, f"found {member.name!r}, which is no plain file or is cut off")
                files[member.name] = data[begin:end]
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise _broken(where, f"found no files ({error})") from error
    return files


def _with_files(raw: Any, stored: dict[str, StoredFile], where: str) -> Any:
    """The record with files in the place of their names; what isn't a conversation is left for the parser to refuse."""
    if not isinstance(raw, dict) or not isinstance(raw.get("messages"), list):
        return raw
    for message in raw["messages"]:
        content = message.get("content") if isinstance(message, dict) else None
        for item in content if isinstance(content, list) else ():
            kind = item.get("type") if isinstance(item, dict) else None
            if kind not in list(MEDIA) or item.get(kind) is None:
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
