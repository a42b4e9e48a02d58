"""Media tags, signal tokens and their ids: the one source, for training and for decoding.

New tokens are numbered after the LLM's own vocabulary, which is never resized: their rows are a small parameter beside
it. First come a begin and an end tag for each modality, then every modality's signal tokens (NExT-GPT, arXiv
2309.05519, section 3). Every vocabulary has the media of :data:`isthmus.modalities.MEDIA`, in that order and whatever a
model serves; other modalities stand behind them where a model serves them. Ids are numbers of one run alone: what is
saved of a new token is saved under its modality's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isthmus.modalities import MEDIA, Modality, is_medium, known_media
from isthmus.types import IGNORED

MEDIA_POSITION = -1
"""The id that stands where a medium's projected features go: it has no row in any embedding."""


@dataclass(frozen=True)
class TextSegment:
    """Ids of the LLM's own vocabulary; ``targets`` says which of them carry the text loss."""

    ids: tuple[int, ...]
    targets: tuple[bool, ...]


@dataclass(frozen=True)
class MediaSegment:
    """An input medium: begin tag, its M positions, end tag. ``index`` counts the conversation's input media."""

    modality: Modality
    index: int


@dataclass(frozen=True)
class SignalSegment:
    """A run of signal tokens.

    ``target``: whether it is trained upon; ``index`` counts the conversation's generated media.
    """

    modality: Modality
    index: int
    target: bool


Segment = TextSegment | MediaSegment | SignalSegment
Plan = tuple[Segment, ...]
"""A conversation, in reading order."""


class Vocabulary:
    """The ids of the new tokens.

    Args:
        base_size: rows of the LLM's embedding; the first new id.
        signals: signal tokens for each modality; absent ones take their specification's. Those named here are included.
        is_nextgpt_v1: new tokens as the first release of NExT-GPT numbers and learns them: one pair of tags around any
            medium, runs of those modalities alone that ``signals`` names, an output row for every new token, and a loss
            on every token of a run.

    Attributes:
        media: the modalities that have signal tokens, in the order of their ids.
        predicted: the ids that have an output row; their logits follow those of the LLM's own vocabulary.

    Raises:
        ValueError: a count is below one, or a key isn't a medium.
    """

    def __init__(self, base_size: int, signals: Mapping[str, int] | None = None, is_nextgpt_v1: bool = False) -> None:
        for name, count in (signals or {}).items():
            if not is_medium(name):
                raise ValueError(f"signals: unknown modality '{name}'; known: {', '.join(known_media())}")
            if count < 1:
                raise ValueError(f"signals.{name}: found {count}; a medium needs at least one signal token")
        self.base_size = base_size
        self.is_nextgpt_v1 = is_nextgpt_v1
        self._chosen = {Modality(name): count for name, count in (signals or {}).items()}
        self._others: set[str] = set()
        self.include(self._chosen)

    def include(self, media: Iterable[Modality]) -> None:
        """Gives these modalities tokens too. Ids change, so that this comes before anything is planned or built.

        The first release of NExT-GPT has none but its own, and its tags stand around any medium.
        """
        self._others |= {str(modality) for modality in media} - set(MEDIA)
        every = (*MEDIA, *(Modality(name) for name in sorted(self._others)))
        self.media = tuple(m for m in every if m in self._chosen) if self.is_nextgpt_v1 else every
        self.signal_counts = {m: self._chosen.get(m, m.spec.signals) for m in self.media}
        self.signal_rows = sum(self.signal_counts.values())
        self._first: dict[Modality, int] = {}
        next_id = self.base_size + self.tag_rows
        for modality, count in self.signal_counts.items():
            self._first[modality] = next_id
            next_id += count
        self.size = next_id
        self.predicted = list(range(self.base_size, next_id) if self.is_nextgpt_v1 else self._first.values())

    @property
    def tag_rows(self) -> int:
        """How many rows the begin and end tags take."""
        return 2 if self.is_nextgpt_v1 else 2 * len(self.media)

    def tags(self, modality: Modality) -> tuple[int, int]:
        """The ids of the begin and the end tag around an input medium."""
        if self.is_nextgpt_v1:
            return self.base_size, self.base_size + 1
        self._check(modality)
        begin = self.base_size + 2 * self.media.index(modality)
        return begin, begin + 1

    def run_labels(self, modality: Modality) -> list[int]:
        """What is learnt of a run: its first token, after which decoding appends the rest by itself; or all of it."""
        first, *rest = self.signal_ids(modality)
        return [first, *(rest if self.is_nextgpt_v1 else [IGNORED] * len(rest))]

    def signal_ids(self, modality: Modality) -> range:
        """The ids of a modality's run of signal tokens, in order."""
        self._check(modality)
        first = self._first[modality]
        return range(first, first + self.signal_counts[modality])

    def starts(self) -> dict[int, Modality]:
        """First signal id -> modality. Only these are ever chosen: the rest of a run follows its first token."""
        return {first: modality for modality, first in self._first.items()}

    def token_name(self, token: int) -> str:
        """A printable name of a new token, such as ``<image>``, ``</image>`` or ``[image 0]``."""
        for modality in self.media or MEDIA:
            begin, end = self.tags(modality)
            if token == begin:
                return f"<{modality}>"
            if token == end:
                return f"</{modality}>"
            if modality in self._first and token in self.signal_ids(modality):
                return f"[{modality} {token - self._first[modality]}]"
        raise ValueError(
            f"token {token} isn't one of the {self.size - self.base_size} new tokens from {self.base_size}"
        )

    def _check(self, modality: Modality) -> None:
        if modality not in self._first:
            raise ValueError(
                f"vocabulary: found {modality}; this model has tokens for {', '.join(self.media) or 'no medium'}. Fix: "
                f"give it an encoder or a generator for {modality}."
            )
