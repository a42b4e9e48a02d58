"""Scores replies to natural requests: whether they hold exactly the media asked for, and what these show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.data.plain import states_one
from isthmus.evaluation.matrix.judge import Judge, Reading
from isthmus.modalities import is_medium, known_media
from isthmus.model.reply import Reply
from isthmus.types import Media, Modality

_DECLINES = re.compile(r"\b(?:can.t|cannot|can not|unable|not able|only)\b", re.IGNORECASE)
"""How an answer declines, with whatever apostrophe."""


@dataclass(frozen=True)
class Wanted:
    """The expected reply, from a prompt's ``details``.

    Attributes:
        kind: of request, such as ``make``, ``words``, ``decline``, ``ask_back`` or ``sum``.
        media: the modalities that the reply must hold, no other and no more.
        attributes: of each of these the expected values; or one entry for the words, where no media are expected.
        answer: words that the reply must say, if any.
    """

    kind: str
    media: tuple[Modality, ...]
    attributes: tuple[Reading, ...]
    answer: str | None

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Wanted:
        """Reads ``kind``, ``media``, ``expect`` and ``answer``.

        Raises:
            ValueError: one of them is missing, unknown or doesn't fit the others.
        """
        name = f"prompt {details.get('id', '')}".rstrip()
        kind, media = details.get("kind"), details.get("media")
        if not isinstance(kind, str):
            raise ValueError(f"{name}: details.kind: found {kind!r}; expected a word, such as make. Fix: give it.")
        if not isinstance(media, list | tuple) or not all(is_medium(each) for each in media):
            raise ValueError(
                f"{name}: details.media: found {media!r}; expected a list of {', '.join(known_media())}. Fix: name the "
                "media that the reply must hold, [] for words alone."
            )
        expect = details.get("expect") or []
        if not all(isinstance(each, Mapping) for each in expect) or (expect and len(expect) != max(len(media), 1)):
            raise ValueError(
                f"{name}: details.expect: found {expect!r}; expected a mapping of attributes for each of "
                f"{len(media)} media (or one for the words). Fix: give as many."
            )
        values = tuple({str(k): v for k, v in each.items() if v is not None} for each in expect)
        return cls(kind, tuple(Modality(each) for each in media), values, details.get("answer"))


@dataclass(frozen=True)
class Judged:
    """A scored reply to a natural request.

    Attributes:
        wanted: the expected one.
        made: the media that the reply holds.
        readings: of each expected medium, in order (or of the words); empty if there is nothing to read.
        says: whether the words are of the expected form.
    """

    wanted: Wanted
    made: tuple[Modality, ...]
    readings: tuple[Reading, ...]
    says: bool

    @property
    def intent(self) -> bool:
        """Whether the reply holds exactly the media asked for."""
        return Counter(self.made) == Counter(self.wanted.media)

    @property
    def attributes(self) -> bool | None:
        """Whether all expected attributes were read; None if none are expected, or of other media than were made."""
        if not any(self.wanted.attributes) or not self.intent:
            return None
        pairs = zip(self.wanted.attributes, self.readings, strict=True)
        return all(reading.get(name) == value for values, reading in pairs for name, value in values.items())

    @property
    def right(self) -> bool:
        """Whether everything about the reply is right."""
        return self.intent and self.attributes is not False and self.says


def judge_natural(wanted: Sequence[Wanted], replies: Sequence[Reply], judges: Mapping[str, Judge]) -> list[Judged]:
    """Scores replies; of each modality all are read together.

    Raises:
        ValueError: a modality whose attributes are expected has no judge, or its judge doesn't read one of them.
    """
    to_read: dict[str, list[tuple[int, int, Media | str]]] = {}
    for row, (own, reply) in enumerate(zip(wanted, replies, strict=True)):
        for place, (modality, item) in enumerate(_matched(own, reply)):
            if place < len(own.attributes) and own.attributes[place]:
                _check(judges, modality, own.attributes[place])
                to_read.setdefault(modality, []).append((row, place, item))
    read: dict[tuple[int, int], Reading] = {}
    for modality, items in to_read.items():
        found = judges[modality].many([item for _, _, item in items])
        read |= {(row, place): reading for (row, place, _), reading in zip(items, found, strict=True)}
    judged = []
    for row, (own, reply) in enumerate(zip(wanted, replies, strict=True)):
        readings = tuple(read.get((row, place), {}) for place in range(len(own.attributes)))
        made = tuple(medium.modality for medium in reply.media())
        judged.append(Judged(own, made, readings, _says(own, reply.text)))
    return judged


def _matched(wanted: Wanted, reply: Reply) -> list[tuple[str, Media | str]]:
    """What is read for each expected medium: the reply's media of a modality in order; its words if none is expected.

    Nothing if the reply holds other media than these.
    """
    if Counter(medium.modality for medium in reply.media()) != Counter(wanted.media):
        return []
    if not wanted.media:
        return [(str(Modality.TEXT), reply.text)]
    left = {modality: reply.media(modality) for modality in wanted.media}
    return [(str(modality), left[modality].pop(0)) for modality in wanted.media]


def _says(wanted: Wanted, text: str) -> bool:
    """Whether the words are of the expected form."""
    if wanted.answer is not None:
        return states_one(text, [wanted.answer])
    match wanted.kind:
        case "decline":
            return _DECLINES.search(text) is not None
        case "ask_back":
            return "?" in text
        case _:
            return bool(wanted.media) or bool(text.strip())


def _check(judges: Mapping[str, Judge], modality: str, values: Reading) -> None:
    judge = judges.get(modality)
    if judge is None:
        raise ValueError(
            f"judges: found {', '.join(judges) or 'none'}; expected one for {modality}, whose attributes a natural "
            "request names. Fix: give it a judge."
        )
    if unread := [name for name in values if name not in judge.attributes]:
        raise ValueError(
            f"judges.{modality}: reads {', '.join(judge.attributes)}; expected {unread[0]} too, which a natural "
            "request names. Fix: give another judge, or leave it out of details.expect."
        )
