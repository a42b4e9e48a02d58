"""Replies as messages, and as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.data.media import ENDINGS, save_media
from isthmus.model.reply import Reply
from isthmus.types import Media

Content = list[dict[str, Any]]
"""A message's content in the chat-content convention."""


def as_content(pieces: Sequence[str | Media]) -> Content:
    """Text and media, in order, as a message's content. Nothing at all is an empty text: a message holds something."""
    content: Content = [
        {"type": "text", "text": piece}
        if isinstance(piece, str)
        else {"type": str(piece.modality), piece.modality: piece}
        for piece in pieces
    ]
    return content or [{"type": "text", "text": ""}]


def printable(text: str) -> str:
    """What a terminal may be given: an LLM's words can hold control characters, which would act on it."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t").strip()


def save_content(content: Content, folder: Path, prefix: str = "") -> Content:
    """Writes the media of a content into a folder; the same content with files' names in their place."""
    saved: Content = []
    for index, item in enumerate(content):
        media = item.get(item["type"])
        if not isinstance(media, Media):
            saved.append(item)
            continue
        name = f"{prefix}{index}_{media.modality}{ENDINGS[media.modality][0]}"
        save_media(media, folder / name)
        saved.append({**item, item["type"]: name})
    return saved


def save_reply(reply: Reply, folder: Path) -> list[Path]:
    """Writes ``reply.json`` and each medium into a folder; the paths of the media.

    ``reply.json`` holds ``content`` in the chat-content convention, files by name, and how the answer came about:
    ``forced`` (media that the request required and the LLM didn't ask for), ``ended`` and ``tokens``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = save_content(as_content(reply.content), folder)
    record = {"content": content, "forced": reply.forced, "ended": reply.ended, "tokens": reply.tokens}
    (folder / "reply.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [folder / item[item["type"]] for item in content if item["type"] != "text"]
