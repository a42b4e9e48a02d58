"""Writes a set as the package's own JSON lines, with its media in a folder beside them."""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

from isthmus.data.streaming.records import Record
from isthmus.paths import user_path

LINES = "conversations.jsonl"
MEDIA_FOLDER = "media"


class LinesWriter:
    """Writes ``conversations.jsonl`` and, under ``media``, each file once, named by its digest.

    The lines have a temporary name until the last one is written. An interrupted conversion starts again, but keeps the
    media that it has written.

    Args:
        folder: the target.
        overwrite: whether existing lines are replaced once the new ones are complete; otherwise they are refused.

    Raises:
        ValueError: the folder holds a set, or can't be created.
    """

    def __init__(self, folder: str | Path, overwrite: bool = False) -> None:
        self.folder = folder = user_path(folder)
        self.progress: dict[str, Any] = {}
        if (folder / LINES).exists() and not overwrite:
            raise ValueError(f"{folder}: found {LINES}; expected no set there. Fix: name another folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{folder}: it can't be made ({error}); expected a folder. Fix: name another.") from error
        self._part = folder / f"{LINES}.partial"
        self._file = self._part.open("w", encoding="utf-8", errors="surrogatepass", newline="\n")

    def add(self, record: Record) -> None:
        """Writes one conversation, and those of its media that don't exist yet."""
        names = [self._keep(suffix, data) for suffix, data in record.files]
        self._file.write(json.dumps(record.named(names), ensure_ascii=False, allow_nan=False) + "\n")

    def mark(self, progress: dict[str, Any]) -> None:
        """Does nothing: a conversion to lines can't be resumed."""

    def finish(self) -> None:
        """Renames the complete lines to their final name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self.folder / LINES)

    def _keep(self, suffix: str, data: bytes) -> str:
        digest = blake2b(data, digest_size=16).hexdigest()
        # Subfolders, because many file systems are slow with a million files in one folder.
        name = f"{MEDIA_FOLDER}/{digest[:2]}/{digest}{suffix}"
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.partial")
            part.write_bytes(data)
            os.replace(part, path)
        return name
