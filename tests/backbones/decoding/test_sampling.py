"""Sampling sorts few columns, and chooses as if it had sorted all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from isthmus.backbones.base import Sampling
from isthmus.backbones.decoding.sampling import Sampler


def sorted_choice(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Of all columns, sorted."""
    probabilities, order = (logits.double() / sampling.temperature).softmax(-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    kept = (before < sampling.top_p) & (probabilities > 0)
    mass = probabilities.where(kept, 0).cumsum(-1)
    draw = torch.rand(1, generator=generator, dtype=torch.float64)
    return int(order[torch.minimum((mass <= draw * mass[-1]).sum(), kept.sum() - 1)])


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_few_sorted_columns_choose_as_all(spread: float, top_p: float) -> None:
    """A spread of zero makes all columns equal; that of a half-precision head makes many equal."""
    logits = (torch.randn(20000, generator=torch.Generator().manual_seed(1)) * spread).to(torch.bfloat16).float()
    logits[5:9] = -torch.inf
    sampling = Sampling(temperature=0.9, top_p=top_p, seed=4)
    sampler, generator = Sampler(sampling, 1), torch.Generator().manual_seed(4)
    for _ in range(25):
        assert sampler.choose(logits[None]) == [sorted_choice(logits, sampling, generator)]
