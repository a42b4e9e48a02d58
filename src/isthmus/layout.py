"""The layout of a batch: where everything in it stands, known on the CPU before the batch reaches a device.

A step that finds out on a device how many positions predict, or where a medium goes, waits for that device each time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """The p positions that a modality's n media take in a batch.

    Attributes:
        positions: (p,) int64, row * T + column.
        media: (p,) which of the n media.
        ranks: (p,) which of its positions.
        rows: n, the sequence of each medium.
        starts: n, its first position there.
        lengths: n, how many positions it takes.
    """

    positions: Tensor
    media: Tensor
    ranks: Tensor
    rows: list[int]
    starts: list[int]
    lengths: list[int]


@dataclass(frozen=True)
class Runs:
    """The r trained runs of a modality.

    Attributes:
        positions: (r, S) int64, row * T + column.
        rows: r, the sequence of each.
        contents: of each denoising target, which of the runs it belongs to.
        answered: whether each of them stands in a trained answer.
    """

    positions: Tensor
    rows: list[int]
    contents: list[int]
    answered: bool


@dataclass(frozen=True)
class Spans:
    """The trained answers of a batch, row by row in reading order: of each its row, first position and length."""

    rows: list[int]
    starts: list[int]
    lengths: list[int]


@dataclass(frozen=True)
class Beginnings:
    """Which rows of a batch begin alike: by the same tokens and media.

    Attributes:
        order: the rows, such that rows that begin alike are neighbours.
        common: of each row in this order, how many first positions it has in common with the one before it; 0 for the
            first.
    """

    order: list[int]
    common: list[int]

    def of(self, rows: Sequence[int]) -> Beginnings:
        """Those of some rows, which are numbered as they come."""
        place = {row: at for at, row in enumerate(rows)}
        order: list[int] = []
        found: list[int] = []
        least = 0
        for row, common in zip(self.order, self.common, strict=True):
            least = min(least, common)
            if row in place:
                found.append(least if order else 0)
                order.append(place[row])
                least = sys.maxsize
        return Beginnings(order, found)


@dataclass(frozen=True)
class Layout:
    """Where everything stands in a batch (B, T) that has been checked: see :func:`isthmus.batch_layout.layout_of`.

    Tensors are indices (int64) and move with their batch; numbers stay. A position is row * T + column.

    Attributes:
        lengths: valid positions of each row.
        first_media: of each row, the first position of a medium; T where there is none.
        first_tag: likewise, of a media tag.
        first_signal: likewise, of a signal token.
        new: (q,) positions of tags and signal tokens.
        new_rows: (q,) which of the new tokens' rows stands there.
        targets: (P,) positions that carry a label, in order; the position before each predicts it.
        columns: (P,) each label's column of the logits.
        target_counts: P by row.
        media: by modality, where media go.
        runs: by modality, the trained runs.
        answers: the trained answers.
        length: T.
        beginnings: which rows begin alike.
    """

    lengths: list[int]
    first_media: list[int]
    first_tag: list[int]
    first_signal: list[int]
    new: Tensor
    new_rows: Tensor
    targets: Tensor
    columns: Tensor
    target_counts: list[int]
    media: Mapping[Any, Places]
    runs: Mapping[Any, Runs]
    answers: Spans
    length: int
    beginnings: Beginnings

    @property
    def target_count(self) -> int:
        """P."""
        return sum(self.target_counts)

    def firsts(self, media: bool, tags: bool, signals: bool) -> list[int]:
        """Of each row, the first position of an input that trains; T if none does.

        Args:
            media: whether a gradient has to reach projected media.
            tags: likewise, media tags.
            signals: likewise, signal tokens.
        """
        kinds = ((media, self.first_media), (tags, self.first_tag), (signals, self.first_signal))
        trained = [firsts for trains, firsts in kinds if trains]
        return [min(own) for own in zip(*trained, strict=True)] if trained else [self.length] * len(self.lengths)

    def apply(self, move: Callable[[Tensor], Tensor]) -> Layout:
        """The same layout with ``move`` applied to each tensor."""

        def moved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return move(value)
            if isinstance(value, Places | Runs):
                return replace(value, **{name: moved(own) for name, own in vars(value).items()})
            return {key: moved(own) for key, own in value.items()} if isinstance(value, dict) else value

        return replace(self, **{name: moved(own) for name, own in vars(self).items()})


def on_device(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers of the CPU as a tensor, for which nothing waits: ``torch.tensor(..., device=...)`` waits for a GPU."""
    made = torch.as_tensor(values, dtype=dtype)
    return made if device.type == "cpu" else made.to(device, non_blocking=True)
