"""S less what it is in every conversation, over how far conversations differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ENOUGH = 16
"""The mean and spread of so many runs serve nearly as well as those of hundreds."""


class Standardisation(nn.Module):
    """The first runs' mean is taken from S, and what is left is divided by their spread; then both stay as they are.

    An LLM's states at the same signal token are largely the same whatever was asked for, and few of their dimensions
    hold most of their size. A projector that sees them so spends most of its training on taking that out. Mean and
    spread are of each signal position and dimension. Until :data:`ENOUGH` runs have been seen, S passes unchanged.

    Args:
        signals: S.
        width: E.

    Attributes:
        mean: (S, E) of the runs seen.
        spread: (S, E), their standard deviation.
        seen: (), how many.
    """

    mean: Tensor
    spread: Tensor
    seen: Tensor

    def __init__(self, signals: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(signals, width))
        self.register_buffer("spread", torch.ones(signals, width))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, states: Tensor) -> Tensor:
        """S (r, S, E) -> S of like shape, standardised."""
        is_known = self.seen >= ENOUGH
        # A dimension that hardly differed among few runs may differ among many.
        spread = torch.maximum(self.spread, self.spread.mean() / 10)
        return (states - torch.where(is_known, self.mean, 0)) / torch.where(is_known, spread, 1)

    @property
    def lacks(self) -> bool:
        """Whether more runs are to be seen. It is read from the device."""
        return bool(self.seen < ENOUGH)

    @torch.no_grad()
    def take(self, sums: Tensor) -> None:
        """Takes a step's runs into mean and spread, given their :meth:`sums` over all processes.

        Nothing is taken once there are enough, nor of a step with a run that isn't finite: it would stay in the mean.
        """
        count, *added = sums[0], *sums[1:].view(2, *self.mean.shape)
        mean, spread, seen = (own.to(sums) for own in (self.mean, self.spread, self.seen))
        total, squares = seen * mean + added[0], seen * (spread.square() + mean.square()) + added[1]
        together = (seen + count).clamp(min=1)
        found = total / together
        spread = (squares / together - found.square()).clamp(min=0).sqrt()
        takes = (seen < ENOUGH) & (count > 0) & sums.isfinite().all()
        for own, new in ((self.mean, found), (self.spread, spread), (self.seen, seen + count)):
            own.copy_(torch.where(takes, new, own))

    def sums(self, parts: Sequence[Tensor]) -> Tensor:
        """(1 + 2 S E,) float64 of runs, each part (r, S, E): their number, their sum, and that of their squares."""
        own = torch.cat([self.mean.new_zeros(0, *self.mean.shape), *parts]).to(torch.float64)
        return torch.cat([own.new_full((1,), len(own)), own.sum(0).flatten(), own.square().sum(0).flatten()])
