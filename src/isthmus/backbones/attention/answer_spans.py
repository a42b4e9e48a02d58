"""Positions of a batch's trained answers: an encoder-decoder encodes what precedes an answer, and decodes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.backbones.attention.length_groups import length_groups
from isthmus.layout import Layout

Integers = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class AnswerSpans:
    """The A trained answers of a batch.

    Attributes:
        rows: (A,) the row of each.
        starts: (A,) its first position.
        lengths: (A,) its number of positions.
    """

    rows: Integers
    starts: Integers
    lengths: Integers

    def columns(self) -> tuple[Integers, Flags]:
        """Positions (A, L) of the answers' tokens, right-padded with the first position, and their mask."""
        steps = np.arange(self.lengths.max())
        mask = steps < self.lengths[:, None]
        return np.where(mask, self.starts[:, None] + steps, self.starts[:, None]), mask

    def groups(self, launch: int) -> list[AnswerSpans]:
        """The answers that run together: of similar length and, among these, of similar prefix length.

        Args:
            launch: the overhead of a pass, in positions, see
                :func:`~isthmus.backbones.attention.length_groups.length_groups`.
        """
        groups = []
        for similar in length_groups(self.lengths.tolist(), [0] * len(self.lengths), launch):
            own = self.starts[similar.rows].tolist()
            for group in length_groups(own, [0] * len(own), launch):
                chosen = [similar.rows[place] for place in group.rows]
                groups.append(AnswerSpans(self.rows[chosen], self.starts[chosen], self.lengths[chosen]))
        return groups


def answer_spans(layout: Layout) -> AnswerSpans:
    """The answers of a batch, row by row in reading order.

    Raises:
        ValueError: a trained run stands in no answer.
    """
    for modality, runs in layout.runs.items():
        if not runs.answered:
            raise ValueError(
                f"batch.signals.{modality}: found runs whose first token carries no label; expected trained runs to "
                "stand within a trained answer"
            )
    found = layout.answers
    return AnswerSpans(*(np.asarray(own, dtype=np.int64) for own in (found.rows, found.starts, found.lengths)))
