"""Replies as messages, and as files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from isthmus.data.media.files import save_media
from isthmus.paths import user_path
from isthmus.types import Media
from isthmus.writing import worded, write_file

Content = list[dict[str, Any]]
"""A message's content in the chat-content convention."""


def as_content(pieces: Sequence[str | Media]) -> Content:
    """Text and media, in order, as a message's content. No pieces give an empty text, since content can't be empty."""
    content: Content = [
        {"type": "text", "text": piece}
        if isinstance(piece, str)
        else {"type": str(piece.modality), piece.modality: piece}
        for piece in pieces
    ]
    return content or [{"type": "text", "text": ""}]


class MediaFolder:
    """A folder into which media are written, each once and under an unused name.

    Args:
        folder: created when the first medium is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = user_path(folder)
        self._names: WeakKeyDictionary[Media, str] = WeakKeyDictionary()

    def next_number(self) -> int:
        """One more than the highest number at the beginning of a file's name, such as ``007_1_image.png``."""
        return 1 + highest(self.folder, r"(\d+)_.*")

    def save(self, content: Content, prefix: str = "") -> Content:
        """Writes the media of a content, and returns the content with media replaced by file names."""
        saved: Content = []
        for index, item in enumerate(content):
            media = item.get(item["type"])
            if not isinstance(media, Media):
                saved.append(item)
                continue
            name = self._names.get(media)
            if name is None or not (self.folder / name).is_file():
                name = self._write(media, f"{prefix}{index}_{media.modality}{media.modality.spec.file_endings[0]}")
            saved.append({**item, item["type"]: name})
        return saved

    def _write(self, media: Media, name: str) -> str:
        path = claim(self.folder / name)
        try:
            save_media(media, path)
        except BaseException:
            path.unlink()
            raise
        self._names[media] = path.name
        return path.name


def highest(folder: Path, pattern: str) -> int:
    """The highest number, the pattern's group, among the names of a folder's files; 0 if there is none."""
    if not folder.is_dir():
        return 0
    found = (re.fullmatch(pattern, path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in found if match), default=0)


def claim(path: Path) -> Path:
    """The path, or the first unused of ``name-002.png``, ``name-003.png``, ...; an empty file is created there.

    So nothing is overwritten, not even files of another process that runs at the same time.

    Raises:
        ValueError: no file can be made there.
    """
    with worded(path, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path
        for number in count(2):
            try:
                own.touch(exist_ok=False)
                break
            except FileExistsError:
                own = path.with_stem(f"{path.stem}-{number:03}")
    return own


def write_record(record: Mapping[str, Any], path: Path) -> None:
    """Writes JSON atomically."""
    write_file(path, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def save_pieces(pieces: Sequence[str | Media], facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes ``reply.json`` and each medium into a folder, and returns the paths of the media.

    ``reply.json`` holds ``content`` in the chat-content convention, with file names, and the facts. Earlier replies in
    the folder are kept: their records are renamed to ``reply-001.json``, ``reply-002.json`` and so on, and their media
    keep their names. Media of the second reply begin with ``002_``.
    """
    newest = folder / "reply.json"
    with worded(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
    number = 1 + highest(folder, r"reply-(\d+)\.json")
    if newest.is_file():
        newest.replace(claim(folder / f"reply-{number:03}.json"))
        number += 1
    content = MediaFolder(folder).save(as_content(pieces), f"{number:03}_" if number > 1 else "")
    write_record({"content": content, **facts}, newest)
    return [folder / item[item["type"]] for item in content if item["type"] != "text"]
