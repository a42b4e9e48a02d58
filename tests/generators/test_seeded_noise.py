"""A sample's randomness is its seed's alone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.generators.seeded_noise import seeded_generators, seeded_normal, seeded_timesteps


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_a_row_is_its_seeds(seeds: list[int]) -> None:
    generators = seeded_generators(seeds)
    timesteps, noise = seeded_timesteps(generators, 1000), seeded_normal(generators, torch.empty(len(seeds), 3, 5))
    for seed, timestep, row in zip(seeds, timesteps, noise, strict=True):
        alone = seeded_generators([seed])
        assert seeded_timesteps(alone, 1000).item() == timestep and 0 <= timestep < 1000
        assert torch.equal(seeded_normal(alone, torch.empty(1, 3, 5))[0], row)


def test_noise_is_standard_normal_and_seeds_differ() -> None:
    noise = seeded_normal(seeded_generators(range(64)), torch.empty(64, 1000))
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert (torch.corrcoef(noise) - torch.eye(64)).abs().max() < 0.2
