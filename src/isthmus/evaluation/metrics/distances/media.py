"""The media of both sides: what replies hold, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from isthmus.cache.media import content_key
from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.media.files import DEFAULT_LIMITS, read_media
from isthmus.data.media.stored import StoredFile
from isthmus.evaluation.predictions.answered import Answered
from isthmus.request import Request
from isthmus.types import Media, Modality


@dataclass(frozen=True)
class Held:
    """A medium that may still be a file.

    Attributes:
        medium: as it is held.
        modality: of it.
        owner: the id of the conversation that it belongs to.
        prompt: a digest of what was asked; equal where the prompts are.
        rate: samples a second of a file that doesn't say it.
        place: which of its owner's media of that modality it is, from 0.
    """

    medium: Media | Path | StoredFile
    modality: Modality
    owner: str
    prompt: str = ""
    rate: float | None = None
    place: int = 0

    @property
    def content(self) -> str:
        """A digest of what is in it."""
        return content_key(self.medium, DEFAULT_LIMITS)

    def read(self, request: Request | None = None) -> Media:
        """The medium, decoded.

        Raises:
            DataError: the file is absent or damaged.
        """
        if isinstance(self.medium, Media):
            return self.medium
        return read_media(self.medium, self.modality, request=request, rate=self.rate)


@dataclass(frozen=True)
class Pair:
    """A made medium and the one that was expected in its place.

    Attributes:
        owner: the id of the conversation.
        made: the reply's.
        expected: the reference's.
    """

    owner: str
    made: Held
    expected: Held


def made_media(answers: Sequence[Answered], modality: Modality) -> list[Held]:
    """The replies' media, in order."""
    return [
        Held(path, modality, answer.id, prompt_key(answer.prompt), place=place)
        for answer in answers
        for place, path in enumerate(path for own, path in answer.files if own == modality)
    ]


def expected_media(answers: Sequence[Answered], modality: Modality) -> list[Held]:
    """The references' media, in order, whether or not there is a reply to them; those without a file are left out."""
    return [
        Held(item.media, modality, answer.id, rate=item.rate, place=place)
        for answer in answers
        if answer.expected is not None
        for place, item in enumerate(items_of([answer.expected], modality))
        if item.media is not None
    ]


def pairs_of(answers: Sequence[Answered], modality: Modality) -> list[Pair]:
    """Each reply's media beside its reference's of the same place; what the other side lacks has no pair."""
    found = []
    for answer in answers:
        expected = {one.place: one for one in expected_media([answer], modality)}
        made = made_media([answer], modality)
        found += [Pair(answer.id, one, expected[one.place]) for one in made if one.place in expected]
    return found


def source_media(source: ConversationSource, modality: Modality) -> list[Held]:
    """All media of a source, given or to be made, in order."""
    found = []
    for index in range(len(source)):
        one: Conversation = source[index]
        for place, item in enumerate(items_of(one.messages, modality)):
            if item.media is not None:
                found.append(Held(item.media, modality, f"{source.name}/{index}", rate=item.rate, place=place))
    return found


def real_media(answers: Sequence[Answered], reference: ConversationSource | None, modality: Modality) -> list[Held]:
    """What made media are compared with: those of a source, or the answers' own references where there is none."""
    return expected_media(answers, modality) if reference is None else source_media(reference, modality)


def is_asked(answer: Answered, modality: Modality) -> bool:
    """Whether the conversation expects such a medium: its reference has one, or its ``details.output`` says so."""
    if answer.expected is not None and any(True for _ in items_of([answer.expected], modality)):
        return True
    return answer.details.get("output") == modality


def items_of(messages: Sequence[Message], modality: Modality) -> Iterator[MediumItem]:
    """The media items of a modality."""
    for message in messages:
        for item in message.content:
            if isinstance(item, MediumItem) and item.modality == modality:
                yield item


def prompt_key(prompt: Sequence[Message]) -> str:
    """A digest of a prompt's words and media."""
    digest = blake2b(digest_size=16)
    for message in prompt:
        digest.update(f"\n{message.role}".encode())
        for item in message.content:
            if isinstance(item, TextItem):
                digest.update(f"\ntext {item.text}".encode())
            elif item.media is not None:
                digest.update(f"\n{item.modality} {content_key(item.media, DEFAULT_LIMITS)}".encode())
    return digest.hexdigest()
