"""What CrossAttention, QFormer and TokenMerging share: positions, masks, precision, and initial values by seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.input_projectors import CrossAttention, QFormer, TokenMerging
from isthmus.input_projectors.base import InputProjector
from isthmus.types import Features

BUILDS: dict[str, Callable[[int, int], InputProjector]] = {
    "cross_attention": partial(CrossAttention, queries=3, width=8, depth=2, heads=2),
    "q_former": partial(QFormer, queries=3, width=8, layers=2, heads=2, feed_forward=12),
    "token_merging": partial(TokenMerging, tokens_per_position=3),
    "token_merging_deep": partial(TokenMerging, tokens_per_position=3, hidden_width=5),
}
every_kind = pytest.mark.parametrize("kind", BUILDS)


def built(kind: str, seed: int = 0) -> InputProjector:
    torch.manual_seed(seed)
    return BUILDS[kind](6, 10).eval()


@every_kind
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_padding_changes_nothing_and_positions_agree(kind: str, lengths: list[int], seed: int) -> None:
    """Each medium of a padded batch gives what it gives alone; what is hidden may even be NaN."""
    bridge = built(kind)
    random = torch.Generator().manual_seed(seed)
    media = [torch.randn(length, 6, generator=random) for length in lengths]
    tokens = torch.full((len(lengths), max(lengths) + 2, 6), torch.nan)
    mask = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    for row, medium in enumerate(media):
        places = torch.randperm(tokens.shape[1], generator=random)[: len(medium)].sort().values
        tokens[row, places], mask[row, places] = medium, True
    with torch.no_grad():
        projected, shown = bridge(Features(tokens, mask))
        assert projected.shape == (len(lengths), bridge.positions(tokens.shape[1]), 10)
        assert shown.shape == projected.shape[:2] and shown.dtype == torch.bool
        assert projected.isfinite().all()
        for row, medium in enumerate(media):
            alone, all_shown = bridge(Features(medium[None], torch.ones(1, len(medium), dtype=torch.bool)))
            assert all_shown.all() and alone.shape[1] == bridge.positions(len(medium)) == shown[row].sum()
            torch.testing.assert_close(projected[row, shown[row]], alone[0], rtol=1e-4, atol=1e-5)


@every_kind
def test_no_gradient_reaches_padding_and_every_weight_has_one(kind: str) -> None:
    bridge = built(kind)
    tokens = torch.randn(2, 5, 6, requires_grad=True)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    projected, shown = bridge(Features(tokens, mask))
    projected[shown].square().sum().backward()
    assert tokens.grad is not None and not tokens.grad[~mask].any() and tokens.grad[mask].any(-1).all()
    unused = [name for name, weight in bridge.named_parameters() if weight.grad is None or not weight.grad.any()]
    # The gradient of a key's bias is zero by the softmax's shift invariance; it is computed, with rounding or without.
    assert [name for name in unused if not name.endswith("key.bias")] == []


@every_kind
def test_it_runs_in_bfloat16_under_autocast(kind: str) -> None:
    bridge = built(kind)
    given_features = Features(torch.randn(2, 5, 6), torch.tensor([[True] * 5, [True] * 2 + [False] * 3]))
    exact, shown = bridge(given_features)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, same = bridge(given_features)
        half, _ = bridge(Features(given_features.tokens.bfloat16(), given_features.mask))
    assert rounded.dtype == half.dtype == torch.bfloat16 and torch.equal(shown, same)
    for found in (rounded, half):
        torch.testing.assert_close(found[shown].float(), exact[shown], rtol=0.1, atol=0.1)


@every_kind
def test_initial_values_come_from_the_seed(kind: str) -> None:
    first, again, other = built(kind, 1).state_dict(), built(kind, 1).state_dict(), built(kind, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", ["cross_attention", "q_former"])
def test_queries_differ_from_the_start(kind: str) -> None:
    projected, _ = built(kind)(Features(torch.randn(1, 4, 6), torch.ones(1, 4, dtype=torch.bool)))
    assert (projected[0, 0] - projected[0, 1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("kind", "fault", "said"),
    [
        (CrossAttention, {"queries": 0}, "found queries 0; expected at least 1"),
        (CrossAttention, {"heads": 4}, "width 6 and 4 heads"),
        (QFormer, {"layers": 0}, "found layers 0; expected at least 1"),
        (QFormer, {"heads": 5}, "width 768 and 5 heads"),
        (TokenMerging, {"tokens_per_position": 0}, "found tokens_per_position 0; expected at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(kind: type[InputProjector], fault: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(6, 10, **fault)
