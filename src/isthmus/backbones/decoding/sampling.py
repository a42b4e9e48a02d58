"""Chooses the next token: greedy, or by top-p sampling with a separate generator for each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.frozen import is_shapes_only


class Sampler:
    """Chooses a column of the logits for each row.

    Row ``i`` draws from a CPU generator seeded with ``sampling.seed + i``, one number for each choice, so that its
    choices depend neither on the other rows nor on the device.

    Args:
        sampling: temperature, top-p and seed.
        rows: B.
    """

    def __init__(self, sampling: Sampling, rows: int) -> None:
        self.sampling = sampling
        self.generators = [torch.Generator().manual_seed(sampling.seed + row) for row in range(rows)]

    def choose(self, logits: Tensor, rows: Sequence[int] | None = None) -> list[int]:
        """(b, columns) float -> the chosen column of each. Columns at -inf are never chosen.

        ``rows``: the indices of these rows; all B if None.
        """
        if is_shapes_only():  # there are no numbers to choose by
            return [0] * len(logits)
        if self.sampling.temperature == 0:
            greedy: list[int] = logits.argmax(-1).tolist()
            return greedy
        probabilities, order = (logits.double() / self.sampling.temperature).softmax(-1).sort(-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities
        kept = (before < self.sampling.top_p) & (
            probabilities > 0
        )  # the likeliest token has no mass before it, so one is always kept
        mass = probabilities.where(kept, 0).cumsum(-1)
        generators = self.generators if rows is None else [self.generators[row] for row in rows]
        draws = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
        reached = draws.to(logits.device)[:, None] * mass[:, -1:]
        places = torch.minimum((mass <= reached).sum(-1), kept.sum(-1) - 1)
        chosen: list[int] = order.gather(-1, places[:, None])[:, 0].tolist()
        return chosen
