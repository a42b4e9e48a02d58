"""Stochastic depth: in training, drops a residual branch for whole samples (Huang et al., arXiv 1603.09382)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Drops a residual branch (B, ...) for whole samples with probability ``rate``; others are scaled up in turn."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        return branch * torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(keep).div_(keep)


def rising_rates(last: float, blocks: int) -> list[float]:
    """The drop rate of each block, from 0 at the first to ``last``, so that early layers are always trained."""
    return [last * index / max(blocks - 1, 1) for index in range(blocks)]
