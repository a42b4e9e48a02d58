"""What S is standardised by: the first runs' mean and spread, however they come in parts, and nothing afterwards."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.output_projectors.standardisation import ENOUGH, Standardisation

S, E = 3, 5


def runs(count: int, seed: int = 0) -> torch.Tensor:
    """(count, S, E), around a mean that is far larger than what differs."""
    generator = torch.Generator().manual_seed(seed)
    mean = 100 * torch.randn(S, E, generator=generator)
    return mean + torch.rand(S, E, generator=generator) * torch.randn(count, S, E, generator=generator)


def seen(*parts: torch.Tensor) -> Standardisation:
    standard = Standardisation(S, E)
    for part in parts:
        standard.take(standard.sums([part]))
    return standard


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_mean_and_spread_are_those_of_the_first_runs_whatever_their_parts(sizes: list[int]) -> None:
    counted = [size for at, size in enumerate(sizes) if sum(sizes[:at]) < ENOUGH]
    standard, whole = seen(*runs(sum(sizes)).split(sizes)), runs(sum(sizes))[: sum(counted)]
    assert int(standard.seen) == len(whole) and standard.lacks == (len(whole) < ENOUGH)
    if len(whole):
        torch.testing.assert_close(standard.mean, whole.mean(0), rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(standard.spread, whole.std(0, correction=0), rtol=1e-3, atol=1e-3)


def test_processes_add_up_their_runs() -> None:
    whole, standard = runs(20), Standardisation(S, E)
    standard.take(standard.sums([whole[:3], whole[3:7]]) + standard.sums([]) + standard.sums([whole[7:]]))
    alone = seen(whole)
    for name, own in alone.state_dict().items():
        torch.testing.assert_close(standard.state_dict()[name], own)


def test_a_step_that_is_not_finite_is_not_seen() -> None:
    broken = runs(4, seed=1)
    broken[2, 1, 3] = float("nan")
    standard = seen(runs(8), broken, broken.nan_to_num(float("inf")), runs(8, seed=2))
    for name, own in seen(runs(8), runs(8, seed=2)).state_dict().items():
        torch.testing.assert_close(standard.state_dict()[name], own)


def test_states_are_standardised_once_enough_runs_were_seen() -> None:
    few, many = seen(runs(ENOUGH - 1)), seen(runs(ENOUGH))
    states = runs(400)
    assert torch.equal(few(states), states)
    found = many(states)
    expected = (states - runs(ENOUGH).mean(0)) / runs(ENOUGH).std(0, correction=0)
    is_wide = many.spread > many.spread.mean() / 10
    assert 0 < int(is_wide.sum())
    torch.testing.assert_close(found[:, is_wide], expected[:, is_wide], rtol=1e-2, atol=1e-2)
    assert found.mean((0, 1)).abs().max() < 1.0 and 0.5 < float(found.std()) < 2.0


def test_a_dimension_that_did_not_differ_may_differ_later() -> None:
    constant = runs(ENOUGH)
    constant[:, 1, 2] = 7.0
    later = constant[:1].clone()
    later[:, 1, 2] += 1.0
    standard = seen(constant)
    assert float(standard(later)[0, 1, 2]) == float(10 / standard.spread.mean())
