"""Where the trained answers stand in a batch: an encoder-decoder reads what comes before one, and writes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.backbones.layout import run_positions
from isthmus.backbones.length_groups import length_groups
from isthmus.types import IGNORED, MEDIA, Batch
from isthmus.vocabulary import Vocabulary


@dataclass(frozen=True)
class AnswerSpans:
    """The A trained answers of a batch, row by row in reading order.

    Attributes:
        rows: (A,) the sequence of each.
        starts: (A,) its first position.
        lengths: (A,) how many positions it takes.
    """

    rows: Tensor
    starts: Tensor
    lengths: Tensor

    def columns(self) -> tuple[Tensor, Tensor]:
        """Positions (A, L) of the answers' tokens, right-padded with the first position, and their mask."""
        steps = torch.arange(int(self.lengths.max()), device=self.rows.device)
        mask = steps < self.lengths[:, None]
        return (self.starts[:, None] + steps).where(mask, self.starts[:, None]), mask

    def groups(self, launch: int) -> list[AnswerSpans]:
        """The answers that run together: alike in length and, among these, in what is read before them.

        Args:
            launch: what a pass costs besides, in positions, see :func:`~isthmus.backbones.length_groups.length_groups`.
        """
        lengths, starts = torch.stack([self.lengths, self.starts]).tolist()
        parted = []
        for alike in length_groups(lengths, [0] * len(lengths), launch):
            own = [starts[answer] for answer in alike.rows]
            for group in length_groups(own, [0] * len(own), launch):
                chosen = torch.tensor([alike.rows[place] for place in group.rows], device=self.rows.device)
                parted.append(AnswerSpans(self.rows[chosen], self.starts[chosen], self.lengths[chosen]))
        return parted


def answer_spans(batch: Batch, vocabulary: Vocabulary) -> AnswerSpans:
    """Finds the answers by the labels.

    An answer is a stretch of labelled positions; of a run of signal tokens only the first is labelled, the rest belong
    to it. Turns that aren't trained upon carry no label: they are part of what is read.

    Raises:
        ValueError: a trained run stands in no answer.
    """
    ids, labelled = batch.ids, batch.labels != IGNORED
    table = torch.zeros(vocabulary.size - vocabulary.base_size, dtype=torch.int64)
    for modality in MEDIA:
        run = vocabulary.signal_ids(modality)
        table[run[0] - vocabulary.base_size :][: len(run)] = torch.arange(len(run))
    is_new = ids >= vocabulary.base_size
    offsets = table.to(ids.device)[(ids - vocabulary.base_size).clamp(min=0)] * is_new
    firsts = (torch.arange(ids.shape[1], device=ids.device) - offsets).clamp(min=0)
    inside = labelled | ((offsets > 0) & labelled.gather(1, firsts))
    for modality, runs in batch.signals.items():
        if not inside[run_positions(runs.rows, runs.starts, vocabulary.signal_counts[modality])].all():
            raise ValueError(
                f"batch.signals.{modality}: found runs whose first token carries no label; expected trained runs to "
                "stand within a trained answer"
            )
    outside = torch.zeros_like(inside[:, :1])
    before, after = torch.cat([outside, inside[:, :-1]], 1), torch.cat([inside[:, 1:], outside], 1)
    rows, starts = (inside & ~before).nonzero(as_tuple=True)
    lasts = (inside & ~after).nonzero(as_tuple=True)[1]
    return AnswerSpans(rows, starts, lasts - starts + 1)
