"""Random numbers drawn on the CPU from each sample's seed: the same in any batch and process, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def seeded_generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """One CPU generator for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def seeded_timesteps(generators: Sequence[torch.Generator], count: int) -> Tensor:
    """(B,) int64: a timestep from [0, count) for each sample, on the CPU."""
    return torch.cat([torch.randint(count, (1,), generator=generator) for generator in generators])


def seeded_normal(generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Standard normal float32 noise, of the shape and on the device of ``like`` (B, ...): a row from each generator."""
    noise = torch.empty(like.shape)
    for row, generator in zip(noise, generators, strict=True):
        row.normal_(generator=generator)
    return noise.to(like.device, non_blocking=True)
