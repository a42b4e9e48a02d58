"""Chooses the next token: greedy, or by top-p sampling with a separate generator for each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.frozen import is_shapes_only

FEW = (1024, 8192)
"""Of the likeliest columns so many are sorted first; nearly every draw is decided among them."""


class Sampler:
    """Chooses a column of the logits for each row.

    Row ``i`` draws from a CPU generator seeded with ``sampling.seeds[i]``, or with ``sampling.seed + i`` where there
    are none, one number for each choice, so that its choices depend neither on the other rows nor on the device.

    Args:
        sampling: temperature, top-p and seed.
        rows: B.
    """

    def __init__(self, sampling: Sampling, rows: int) -> None:
        self.sampling = sampling
        seeds = sampling.seeds or [sampling.seed + row for row in range(rows)]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(self, logits: Tensor, rows: Sequence[int] | None = None) -> list[int]:
        """(b, columns) float -> the chosen column of each. Columns at -inf are never chosen.

        ``rows``: the indices of these rows; all B if None.
        """
        if is_shapes_only():  # there are no numbers to choose by
            return [0] * len(logits)
        if self.sampling.temperature == 0:
            greedy: list[int] = logits.argmax(-1).tolist()
            return greedy
        probabilities = (logits.double() / self.sampling.temperature).softmax(-1)
        generators = self.generators if rows is None else [self.generators[row] for row in rows]
        draws = [torch.rand(1, generator=generator, dtype=torch.float64).item() for generator in generators]
        return [self._drawn(row, draw) for row, draw in zip(probabilities, draws, strict=True)]

    def _drawn(self, probabilities: Tensor, draw: float) -> int:
        """The column that a number in [0, 1) draws: the first, from the likeliest on, whose share isn't below it.

        Sorting all columns takes longer than the rest of a step, so that they are sorted as far as need be.
        """
        top_p, columns = self.sampling.top_p, len(probabilities)
        for count in (*(some for some in FEW if some < columns), columns):
            likeliest, order = _likeliest(probabilities, count)
            mass = likeliest.cumsum(-1)
            # The likeliest token has no mass before it, so one is always kept.
            kept = int(((mass - likeliest < top_p) & (likeliest > 0)).sum())
            if count == columns or kept < len(likeliest):
                total = float(mass[kept - 1])
            elif top_p == 1:
                total = float(probabilities.sum())
            else:
                continue
            place = int((mass <= draw * total).sum())
            if place < kept or count == columns:
                return int(order[min(place, kept - 1)])
        raise AssertionError("all columns were sorted")


def _likeliest(probabilities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """At most so many of the likeliest columns, sorted: their probabilities and numbers; equal ones by number."""
    if count == len(probabilities):
        return probabilities.sort(descending=True, stable=True)
    values, places = probabilities.topk(count)
    is_whole = values > values[-1]  # of those that equal the last one, some may be missing
    places = places[is_whole].sort().values
    values, order = probabilities[places].sort(descending=True, stable=True)
    return values, places[order]
