"""The state of an answer during decoding: the tokens after a choice, the required runs, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from isthmus.backbones.base import Answer, SignalRun, joined
from isthmus.types import Modality
from isthmus.vocabulary import Vocabulary

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that aren't a whole character."""


class AnswerWriter:
    """Converts choices to blocks of ids, and their states to an answer.

    A block is one text token or whole runs of signal tokens: the rest of a run is never sampled, so a partial run can't
    occur. When the answer ends, by its end token or at its limit, required media that it doesn't have yet are appended
    as forced runs.

    Args:
        vocabulary: ids of the runs.
        ends: ids that end an answer.
        limit: tokens after which it ends; a run that begins before it is completed, and forced runs follow beyond it.
        required: media that the answer must hold; a modality named twice is required twice.
        decode: text ids -> text.
        stops: texts that end it too. They aren't part of its text, but of its ids, since they were sampled.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        ends: Collection[int],
        limit: int,
        required: Sequence[Modality],
        decode: Callable[[list[int]], str],
        stops: Sequence[str] = (),
    ) -> None:
        self.vocabulary = vocabulary
        self.starts = vocabulary.starts()
        self.ends = ends
        self.limit = limit
        self.owed = list(required)
        self.decode = decode
        self.stops = tuple(stops)
        self.answer = Answer()
        self.is_finished = False
        self._text: list[int] = []
        self._runs: list[tuple[Modality, int, bool]] = []

    @property
    def awaits_states(self) -> bool:
        """Whether the last block holds runs, whose states are needed."""
        return bool(self._runs)

    @property
    def words(self) -> str:
        """The answer's text so far. Later tokens only add to it.

        A character of which bytes are missing, and the beginning of a stop, wait for the tokens that decide.
        """
        piece = self.decode(self._text).rstrip(UNFINISHED) if self._text else ""
        begun = [n for stop in self.stops for n in range(1, len(stop)) if piece.endswith(stop[:n])]
        whole = [piece for piece in self.answer.pieces if isinstance(piece, str)]
        return joined([*whole, piece[: len(piece) - max(begun, default=0)]])

    def take(self, column: int) -> list[int]:
        """The ids that follow the choice of this column of the logits; none once the answer has ended."""
        if self.is_finished:
            return []
        block: list[int] = []
        if column >= self.vocabulary.base_size:
            self._append_run(block, self.starts[self._token(column)], forced=False)
        elif column in self.ends:
            self.is_finished = True
            self.answer.ids.append(column)
        else:
            self._text.append(column)
            block.append(column)
            self.is_finished = self._stop()
        if not self.is_finished and self.answer.tokens + len(block) >= self.limit:
            self.is_finished, self.answer.ended = True, "length"
        if self.is_finished:
            for modality in list(self.owed):
                self._append_run(block, modality, forced=True)
            self._flush()
        self.answer.tokens += len(block)
        self.answer.ids += block
        return block

    def receive(self, states: Tensor) -> None:
        """Takes the states (block, E) of the last block."""
        for modality, offset, forced in self._runs:
            run = states[offset : offset + self.vocabulary.signal_counts[modality]]
            self.answer.pieces.append(SignalRun(modality, run, forced))
        self._runs = []

    def _append_run(self, block: list[int], modality: Modality, forced: bool) -> None:
        self._flush()
        self._runs.append((modality, len(block), forced))
        block += self.vocabulary.signal_ids(modality)
        if modality in self.owed:
            self.owed.remove(modality)

    def _token(self, column: int) -> int:
        """The new token of a column of the logits."""
        return self.vocabulary.predicted[column - self.vocabulary.base_size]

    def _stop(self) -> bool:
        """Whether a stop is at the text's end. A token may also hold text before or after it."""
        # A character takes at most four tokens, each of a byte.
        return any(stop in self.decode(self._text[-4 * len(stop) :]) for stop in self.stops)

    def _flush(self) -> None:
        """Ends the text piece before a run or the end of the answer; an empty piece is dropped."""
        text = self.decode(self._text) if self._text else ""
        if self._stop():  # the earliest one counts, whichever of several it is, and "####" holds "###" twice
            text = text[: min((text.find(stop) for stop in self.stops if stop in text), default=len(text))]
        if text:
            self.answer.pieces.append(text)
        self._text = []
