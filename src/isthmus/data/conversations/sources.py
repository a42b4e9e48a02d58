"""Where conversations come from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.conversations.line_index import LONGEST, line_index
from isthmus.data.conversations.schema import Conversation, MediumItem, parse_conversation
from isthmus.data.errors import DataError, Fault, data_faults
from isthmus.data.sampling.orders import Chunks
from isthmus.paths import user_path
from isthmus.types import MEDIA, Modality

TEXT = str(Modality.TEXT)


class ConversationSource:
    """A named, indexed collection of conversations. ``source[i]`` is the same conversation each time, in every process.

    Attributes:
        name: what errors and reports call it.
    """

    name: str

    def __len__(self) -> int:
        raise NotImplementedError  # a subclass's duty

    def __getitem__(self, index: int) -> Conversation:
        raise NotImplementedError  # a subclass's duty

    def where(self, index: int) -> str:
        """What a report calls the ``index``-th conversation: the file and line, where there is a file."""
        return f"{self.name}/{index}"

    @property
    def chunks(self) -> Chunks | None:
        """Parts that are best read one after the other, where an order that jumps about would be slow."""
        return None

    def labels(self) -> Sequence[str]:
        """What media each conversation holds, as :func:`media_label` says it.

        Goes through the whole source, at some tens of microseconds a record where :meth:`media_in` reads no medium. A
        conversation that can't be read is said to hold text: its fault is told when its turn in training comes.
        """
        return [self._label(index) for index in range(len(self))]

    def media_in(self, index: int) -> Collection[Modality]:
        """Of what modalities the ``index``-th conversation holds media, given or made.

        Here they are seen in the conversation; a source whose records name them answers without looking for a file.

        Raises:
            DataError: the record can't be read.
        """
        items = (item for message in self[index].messages for item in message.content)
        return {item.modality for item in items if isinstance(item, MediumItem)}

    def _label(self, index: int) -> str:
        try:
            with data_faults(self.name):
                return media_label(self.media_in(index))
        except DataError:
            return TEXT


def media_label(modalities: Collection[Modality]) -> str:
    """The media that are given or made in a conversation, as ``image`` or ``image+audio``; ``text`` where none is."""
    return "+".join(modality for modality in MEDIA if modality in modalities) or TEXT


def media_named(messages: Any) -> set[Modality]:
    """The media in turns of the chat-content convention that nothing was checked of; what is no turn has none."""
    found = set()
    for message in messages if isinstance(messages, list | tuple) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for item in content if isinstance(content, list | tuple) else ():
            kind = item.get("type") if isinstance(item, Mapping) else None
            if isinstance(kind, str) and kind in MEDIA:
                found.add(Modality(kind))
    return found


class JsonLines(ConversationSource):
    """A file with one conversation a line (:mod:`~isthmus.data.conversations.schema`).

    Only the lines' offsets are held.
    Blank lines are passed over.

    Args:
        path: the file.
        root: the folder that media paths are relative to and can't leave; the file's own folder where none is given.

    Raises:
        ValueError: no such file, or no line in it.
    """

    def __init__(self, path: str | Path, root: str | Path | None = None) -> None:
        self.path = user_path(path)
        self.root = self.path.parent if root is None else user_path(root)
        self.name = self.path.stem
        if not self.path.is_file():
            raise ValueError(
                f"{self.path}: found no file; expected conversations, one JSON object a line. Fix: correct the path."
            )
        if not self.root.is_dir():
            raise ValueError(
                f"{self.path}: found no folder at root {self.root}; expected the one that holds the media. Fix: "
                "correct it."
            )
        self._offsets, self._lines = line_index(self.path)
        if not len(self._offsets):
            raise ValueError(
                f"{self.path}: found no lines; expected conversations, one JSON object a line. Fix: fill the file."
            )

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Conversation:
        """The conversation of the ``index``-th line that isn't blank.

        Raises:
            DataError: the line isn't JSON, or isn't a conversation; named with its number.
        """
        raw, where = self.raw(index)
        return parse_conversation(raw, where, self.root)

    def media_in(self, index: int) -> Collection[Modality]:
        raw, _ = self.raw(index)
        return media_named(raw.get("messages")) if isinstance(raw, Mapping) else ()

    def where(self, index: int) -> str:
        return f"{self.path}:{self._lines[index]}"

    def raw(self, index: int) -> tuple[Any, str]:
        """What stands in the ``index``-th line that isn't blank, unparsed, and the line's name in errors.

        Raises:
            DataError: the line isn't JSON.
        """
        where = self.where(index)
        # Opened anew each time: worker processes share no file position.
        with self.path.open("rb") as file:
            file.seek(self._offsets[index])
            line = file.readline(LONGEST)
        try:
            return json.loads(line), where
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
            raise DataError(
                Fault.SCHEMA, f"{where}: found no JSON ({error}); expected one object a line. Fix: correct the line."
            ) from error
