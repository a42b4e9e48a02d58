"""A test conversation with the reply to it, whose media are files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.media.files import read_media
from isthmus.types import Media, Modality


@dataclass(frozen=True)
class Answered:
    """A test conversation and the reply to it.

    Attributes:
        source: the test source's name, the key in ``data.test``.
        index: of the conversation in the source.
        id: ``details["id"]``, or ``source/index`` where there is none; ``id#index`` where several have the same.
        prompt: what was asked.
        expected: the reference answer, where the conversation has one.
        details: of the conversation: captions, answers, choices.
        text: the reply's words.
        files: the reply's media, in order, as files that lose nothing.
    """

    source: str
    index: int
    id: str
    prompt: Sequence[Message]
    expected: Message | None
    details: Mapping[str, Any]
    text: str
    files: Sequence[tuple[Modality, Path]] = field(default=())

    def media(self, modality: Modality) -> list[Media]:
        """The reply's media of a modality, read from their files.

        Raises:
            DataError: a file is absent or damaged.
        """
        return [read_media(path, modality) for own, path in self.files if own == modality]

    def expected_media(self, modality: Modality) -> list[Media]:
        """The reference's media of a modality; what the reference only describes by a caption isn't among them.

        Raises:
            DataError: a file is absent or damaged.
        """
        return [] if self.expected is None else media_of(self.expected, modality)


def answered(
    source: str, index: int, id: str, conversation: Conversation, text: str, files: Sequence[tuple[Modality, Path]]
) -> Answered:
    """A conversation, its last answer being the reference if it has one, with the reply to it."""
    prompt = conversation.prompt().messages
    expected = next(iter(conversation.messages[len(prompt) :]), None)
    return Answered(source, index, id, prompt, expected, conversation.details, text, files)


def conversation_id(name: str, index: int, details: Mapping[str, object]) -> str:
    """The id by which a source's conversation is known."""
    return str(details.get("id", f"{name}/{index}"))


def media_of(message: Message, modality: Modality) -> list[Media]:
    """A message's media of a modality, in order, read from their files where they are files.

    Raises:
        DataError: a file is absent or damaged.
    """
    found = []
    for item in message.content:
        if isinstance(item, MediumItem) and item.modality == modality and item.media is not None:
            media = item.media
            found.append(media if isinstance(media, Media) else read_media(media, modality, rate=item.rate))
    return found


def words_of(message: Message) -> str:
    """A message's words, without its media."""
    return " ".join(words for item in message.content if isinstance(item, TextItem) and (words := item.text.strip()))
