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

from isthmus.types import IGNORED, MEDIA, Modality

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
        is_nextgpt_v1: new tokens as the first release of NExT-GPT numbers and learns them: one pair of tags around any
            medium, runs of those modalities alone that ``signals`` names, an output row for every new token, and a loss
            on every token of a run.

    Attributes:
        predicted: the ids that have an output row; their logits follow those of the LLM's own vocabulary.

    Raises:
        ValueError: a count is below one, or a key isn't a medium.
    """

    def __init__(self, base_size: int, signals: Mapping[str, int] | None = None, is_nextgpt_v1: bool = False) -> None:
        counts = {} if is_nextgpt_v1 else dict(DEFAULT_SIGNALS)
        for name, count in (signals or {}).items():
            if name not in MEDIA:
                raise ValueError(f"signals: unknown modality '{name}'; known: {', '.join(MEDIA)}")
            if count < 1:
                raise ValueError(f"signals.{name}: found {count}; a medium needs at least one signal token")
            counts[Modality(name)] = count
        self.base_size = base_size
        self.is_nextgpt_v1 = is_nextgpt_v1
        self.signal_counts = {modality: counts[modality] for modality in MEDIA if modality in counts}
        self.signal_rows = sum(counts.values())
        self._first: dict[Modality, int] = {}
        next_id = base_size + self.tag_rows
        for modality, count in self.signal_counts.items():
            self._first[modality] = next_id
            next_id += count
        self.size = next_id
        self.predicted = list(range(base_size, next_id) if is_nextgpt_v1 else self._first.values())

    @property
    def tag_rows(self) -> int:
        """How many rows the begin and end tags take."""
        return 2 if self.is_nextgpt_v1 else 2 * len(MEDIA)

    def tags(self, modality: Modality) -> tuple[int, int]:
        """The ids of the begin and the end tag around an input medium."""
        begin = self.base_size + (0 if self.is_nextgpt_v1 else 2 * MEDIA.index(modality))
        return begin, begin + 1

    def run_labels(self, modality: Modality) -> list[int]:
        """What is learnt of a run: its first token, after which decoding appends the rest by itself; or all of it."""
        first, *rest = self.signal_ids(modality)
        return [first, *(rest if self.is_nextgpt_v1 else [IGNORED] * len(rest))]

    def signal_ids(self, modality: Modality) -> range:
        """The ids of a modality's run of signal tokens, in order."""
        first = self._first[modality]
        return range(first, first + self.signal_counts[modality])

    def starts(self) -> dict[int, Modality]:
        """First signal id -> modality. Only these are ever chosen: the rest of a run follows its first token."""
        return {first: modality for modality, first in self._first.items()}

    def token_name(self, token: int) -> str:
        """A printable name of a new token, such as ``<image>``, ``</image>`` or ``[image 0]``."""
        for modality in MEDIA:
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
