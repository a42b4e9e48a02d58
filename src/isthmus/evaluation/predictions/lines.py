"""Answers as JSON lines, one a conversation, in the chat-content convention; media are files beside them.

{"source": "draw", "index": 3, "id": "draw/3", "content": [{"type": "text", "text": "here:"},
 {"type": "image", "image": "media/draw/0000003-1.png"}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.backbones.base import joined
from isthmus.data.media.files import read_media
from isthmus.data.media.locations import resolve_path
from isthmus.modalities import is_medium, known_media
from isthmus.types import Media, Modality

DIGEST = "conversation"
"""The field of a test run's lines that holds a digest of what was answered."""
EXAMPLE = '{"index": 0, "content": [{"type": "text", "text": "a cat"}, {"type": "image", "image": "media/0.png"}]}'


@dataclass(frozen=True)
class StoredAnswer:
    """A line: an answer and whose it is.

    Attributes:
        where: the file and the number of the line, for errors.
        root: the folder that media are relative to and can't leave.
        content: text and media, in order.
        source: the test source's name; None where the line doesn't say.
        index: of the conversation in its source; None where the line has its id alone.
        id: the conversation's; None where the line has its index alone.
        facts: what else the line says.
    """

    where: str
    root: Path
    content: tuple[Mapping[str, str], ...]
    source: str | None = None
    index: int | None = None
    id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All words."""
        return joined(item["text"] for item in self.content if item["type"] == "text")

    @property
    def files(self) -> list[tuple[Modality, Path]]:
        """The media's files, in order.

        Raises:
            DataError: one isn't there, or outside the folder.
        """
        media = [(Modality(item["type"]), item[item["type"]]) for item in self.content if item["type"] != "text"]
        return [(modality, resolve_path(name, self.root, f"{self.where}: {modality}")) for modality, name in media]

    def pieces(self) -> list[str | Media]:
        """Text and media as :class:`~isthmus.model.reply.Reply` has them; the media are read.

        Raises:
            DataError: a file isn't there or is damaged.
        """
        media = iter(self.files)
        return [item["text"] if item["type"] == "text" else _read(*next(media)) for item in self.content]

    def is_whole(self) -> bool:
        """Whether its files are there and hold something: after a power cut a line may be there before its media."""
        names = [item[item["type"]] for item in self.content if item["type"] != "text"]
        return all((path := self.root / name).is_file() and path.stat().st_size > 0 for name in names)


def _read(modality: Modality, path: Path) -> Media:
    return read_media(path, modality)


def read_lines(folder: Path) -> list[StoredAnswer]:
    """The answers in all ``*.jsonl`` files of a folder, by the files' names; blank lines are passed over.

    Raises:
        ValueError: a line isn't in its form.
    """
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if line.strip():
                found.append(_parsed(line, f"{path}:{number}", folder))
    return found


def drop_torn_lines(folder: Path) -> int:
    """Cuts off last lines that a killed process has left unfinished; returns of how many files.

    A finished line ends with a line break, and is JSON.
    """
    torn = 0
    for path in sorted(folder.glob("*.jsonl")):
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        last = content.rfind(b"\n", 0, max(whole - 1, 0)) + 1
        if whole and not _is_json(content[last:whole]):  # blocks that a power cut has left empty
            whole = last
        if whole < len(content):
            torn += 1
            with path.open("r+b") as file:
                file.truncate(whole)
    return torn


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _parsed(line: bytes, where: str, folder: Path) -> StoredAnswer:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _fault(where, f"no JSON ({error})") from error
    if not isinstance(raw, dict):
        raise _fault(where, f"{line[:60]!r}")
    known = {name: raw.pop(name, None) for name in ("source", "index", "id", "content", "text")}
    index, own = known["index"], known["id"]
    if (index is None and own is None) or not isinstance(index, int | None) or isinstance(index, bool):
        raise _fault(where, f"the index {index!r} and the id {own!r}")
    if not isinstance(known["source"], str | None):
        raise _fault(where, f"the source {known['source']!r}")
    content = known["content"] if known["text"] is None else [{"type": "text", "text": known["text"]}]
    if not isinstance(content, list) or (known["text"] is not None and known["content"] is not None):
        raise _fault(where, "neither a list under content nor text" if known["text"] is None else "content and text")
    items = tuple(_item(item, f"{where}: content[{place}]") for place, item in enumerate(content))
    return StoredAnswer(where, folder, items, known["source"], index, None if own is None else str(own), raw)


def _item(item: Any, where: str) -> Mapping[str, str]:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind != "text" and not is_medium(kind):
        raise _fault(where, f"the type {kind!r} (types are text, {', '.join(known_media())})")
    if not isinstance(item.get(kind), str):
        raise _fault(where, f"{str(item.get(kind))[:60]!r} under {kind}")
    return {"type": kind, kind: item[kind]}


def _fault(where: str, found: str) -> ValueError:
    return ValueError(
        f"{where}: found {found}; expected an answer in its form, such as {EXAMPLE}. Fix: correct the line "
        "(docs/evaluation.md)."
    )
