"""A conversation -> JSON and the unchanged bytes of its media files."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.data.errors import DataError, Fault, fault, is_machines
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.data.retries import DISK
from isthmus.types import Media, Modality


@dataclass
class Record:
    """A conversation as JSON and files.

    Attributes:
        raw: the conversation in the chat-content convention, with indices into ``files`` for media.
        files: suffix and bytes of each medium's file; a file that occurs twice is stored once.
        media: the modalities that occur in it.
    """

    raw: dict[str, Any]
    files: list[tuple[str, bytes]] = field(default_factory=list)
    media: frozenset[Modality] = frozenset()

    def named(self, names: Sequence[str]) -> dict[str, Any]:
        """The conversation with file names instead of indices."""
        messages = [
            {**message, "content": [_named(item, names) for item in message["content"]]}
            for message in self.raw["messages"]
        ]
        return {**self.raw, "messages": messages}


def as_record(conversation: Conversation, where: str, limits: MediaLimits) -> Record:
    """Reads the files of a conversation's media; media in memory are encoded losslessly.

    Raises:
        DataError: a file exceeds a limit or can't be read, JSON can't hold the details, or it is a preference pair.
    """
    if type(conversation) is not Conversation:
        raise fault(where, f"found a {type(conversation).__name__}", "a conversation", "keep such a set as it is")
    details = dict(conversation.details)
    try:
        json.dumps(details, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise fault(
            f"{where}: details", f"found what JSON can't hold ({error})", "plain values", "leave it out"
        ) from error
    record = Record({"messages": []}, media=media_in(conversation))
    if details:
        record.raw["details"] = details
    places: dict[str, int] = {}
    for message in conversation.messages:
        content: list[dict[str, Any]] = []
        for item in message.content:
            if isinstance(item, TextItem):
                content.append({"type": "text", "text": item.text})
                continue
            written: dict[str, Any] = {"type": str(item.modality)}
            if item.media is not None:
                written[str(item.modality)] = _place(item, record, places, where, limits)
            if item.caption is not None:
                written["caption"] = item.caption
            if item.rate is not None:
                written["rate"] = item.rate
            content.append(written)
        written_turn: dict[str, Any] = {"role": message.role, "content": content}
        if message.calls:
            written_turn["tool_calls"] = list(message.calls)
        if not message.trains:
            written_turn["loss"] = False
        record.raw["messages"].append(written_turn)
    if conversation.tools:
        record.raw["tools"] = list(conversation.tools)
    return record


def media_in(conversation: Conversation) -> frozenset[Modality]:
    """The modalities that are given or made."""
    items = (item for message in conversation.messages for item in message.content)
    return frozenset(item.modality for item in items if isinstance(item, MediumItem))


def _place(item: MediumItem, record: Record, places: dict[str, int], where: str, limits: MediaLimits) -> int:
    medium = item.media
    assert medium is not None
    name = str(medium) if isinstance(medium, Path) else f"object {id(medium)}"
    if name not in places:
        places[name] = len(record.files)
        record.files.append(_bytes(medium, where, limits))
    return places[name]


def _bytes(medium: Media | Path | StoredFile, where: str, limits: MediaLimits) -> tuple[str, bytes]:
    if isinstance(medium, StoredFile):
        return _ending(medium.suffix), medium.data
    if isinstance(medium, Media):
        return _written(medium)
    try:
        limits.check(medium, bytes=DISK.run(str(medium), medium.stat).st_size)
        return _ending(medium.suffix), DISK.run(str(medium), medium.read_bytes)
    except OSError as error:
        if is_machines(error):
            raise
        raise DataError(
            Fault.PATH, f"{where}: {medium} can't be read ({error}); expected a file. Fix: check its permissions."
        ) from error


def _ending(suffix: str) -> str:
    # Checked because it becomes part of another file's name.
    return suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""


def _written(medium: Media) -> tuple[str, bytes]:
    """A decoded medium as a losslessly encoded file."""
    ending = medium.modality.spec.exact_ending
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        path = Path(folder) / f"medium{ending}"
        medium.modality.spec.write_exactly(medium, path)
        return ending, path.read_bytes()


def _named(item: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    kind = item["type"]
    return {**item, kind: names[item[kind]]} if kind in item and kind != "text" else item
