"""Media tags, signal tokens and their ids: the one source, for training and for decoding.

New tokens are numbered after the LLM's own vocabulary, which is never resized: their rows are a small parameter beside
it. First come a begin and an end tag for each modality, then every modality's signal tokens (NExT-GPT, arXiv
2309.05519,
section 3). The order is fixed, whatever modalities a model serves, so that a row keeps its id when a modality is added
later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.types import MEDIA, Modality

MEDIA_POSITION = -1
"""The id that stands where a medium's projected features go: it has no row in any embedding."""

DEFAULT_SIGNALS: dict[Modality, int] = {Modality.IMAGE: 4, Modality.VIDEO: 24, Modality.AUDIO: 8, Modality.POINTS: 8}
"""Signal tokens a medium, as in NExT-GPT (image, video, audio); points are ours."""


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
        signals: signal tokens for each modality; absent ones take :data:`DEFAULT_SIGNALS`.

    Raises:
        ValueError: a count is below one, or a key isn't a medium.
    """

    def __init__(self, base_size: int, signals: Mapping[str, int] | None = None) -> None:
        counts = dict(DEFAULT_SIGNALS)
        for name, count in (signals or {}).items():
            if name not in MEDIA:
                raise ValueError(f"signals: unknown modality '{name}'; known: {', '.join(MEDIA)}")
            if count < 1:
                raise ValueError(f"signals.{name}: found {count}; a medium needs at least one signal token")
            counts[Modality(name)] = count
        self.base_size = base_size
        self.signal_counts = counts
        self.signal_rows = sum(counts.values())
        self._first: dict[Modality, int] = {}
        next_id = base_size + self.tag_rows
        for modality in MEDIA:
            self._first[modality] = next_id
            next_id += counts[modality]
        self.size = next_id

    @property
    def tag_rows(self) -> int:
        """How many rows the begin and end tags take."""
        return 2 * len(MEDIA)

    def tags(self, modality: Modality) -> tuple[int, int]:
        """The ids of the begin and the end tag around an input medium."""
        begin = self.base_size + 2 * MEDIA.index(modality)
        return begin, begin + 1

    def signal_ids(self, modality: Modality) -> range:
        """The ids of a modality's run of signal tokens, in order."""
        first = self._first[modality]
        return range(first, first + self.signal_counts[modality])

    def starts(self) -> dict[int, Modality]:
        """First signal id -> modality. Only these need an output row: the rest of a run follows its first token."""
        return {self._first[modality]: modality for modality in MEDIA}

    def token_name(self, token: int) -> str:
        """A printable name of a new token, such as ``<image>``, ``</image>`` or ``[image 0]``."""
        for modality in MEDIA:
            begin, end = self.tags(modality)
            if token == begin:
                return f"<{modality}>"
            if token == end:
                return f"</{modality}>"
            if token in self.signal_ids(modality):
                return f"[{modality} {token - self._first[modality]}]"
        raise ValueError(
            f"token {token} isn't one of the {self.size - self.base_size} new tokens from {self.base_size}"
        )
