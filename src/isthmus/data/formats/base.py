"""A set in another project's format, record by record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from isthmus.data.conversations.marks import told
from isthmus.data.conversations.records import JsonRecords
from isthmus.data.conversations.schema import Conversation, parse_conversation
from isthmus.data.conversations.sources import ConversationSource, media_named, turns_load
from isthmus.data.sampling.dealing import Load
from isthmus.paths import user_path
from isthmus.types import Modality


class IndexedRecords(Protocol):
    """Records by number.

    Attributes:
        path: the file or folder that they are in.
    """

    path: Path

    def __len__(self) -> int: ...

    def raw(self, index: int) -> tuple[Any, str]:
        """A record, and its place for errors.

        Raises:
            DataError: it can't be read.
        """

    def where(self, index: int) -> str:
        """A record's place."""


class RecordSource(ConversationSource):
    """Conversations made from a file's records, one each; ``source[i]`` reads the i-th record and nothing else.

    Args:
        records: of a file or several, by number.
        root: the folder that media paths are relative to and can't leave; the file's own where none is given.
        target_files: whether the files of media that the assistant makes are read, as denoising targets; their captions
            alone do for alignment.
        kept: the numbers of the records that are read, in order; all where none are given.

    Raises:
        ValueError: no folder at ``root``.
    """

    def __init__(
        self,
        records: IndexedRecords,
        root: str | Path | None,
        target_files: bool = True,
        kept: Sequence[int] | None = None,
    ) -> None:
        self.records = records
        self.root = records.path.parent if root is None else user_path(root)
        self.target_files = target_files
        self.name = records.path.stem
        if not self.root.is_dir():
            raise ValueError(
                f"{records.path}: found no folder at root {self.root}; expected the one that holds the media. Fix: "
                "correct it."
            )
        self._kept = range(len(records)) if kept is None else kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Conversation:
        """The ``index``-th record's conversation.

        Raises:
            DataError: the record isn't of the format, or names a medium that isn't there; with its file and line.
        """
        raw, where = self.records.raw(self._kept[index])
        chat = self.chat(raw, where, self._kept[index])
        if not self.target_files:
            for message in chat["messages"]:
                if message["role"] == "assistant":
                    message["content"] = [_without_file(item) for item in message["content"]]
        return told(parse_conversation(chat, where, self.root), where)

    @property
    def files(self) -> Sequence[Path]:
        return [self.records.path]

    def media_in(self, index: int) -> Collection[Modality]:
        raw, where = self.records.raw(self._kept[index])
        return media_named(self.chat(raw, where, self._kept[index])["messages"])

    def where(self, index: int) -> str:
        return self.records.where(self._kept[index])

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        """A record in the chat-content convention.

        Raises:
            DataError: a field is missing or wrong.
        """
        raise NotImplementedError  # a format's duty


class JsonSource(RecordSource):
    """Records of one JSON file.

    Args:
        path: a JSON array, or JSON lines.
        root: the folder of the media; the file's own where none is given.

    Raises:
        ValueError: see :class:`~isthmus.data.conversations.records.Records`.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None) -> None:
        super().__init__(JsonRecords(path), root)

    def load(self, index: int) -> Load:
        raw, where = self.records.raw(self._kept[index])
        return turns_load(self.chat(raw, where, self._kept[index])["messages"])


def _without_file(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != item["type"] or key == "text"}
