"""The pooled half of a bridge: over the mean of the states, beside a projector that it leaves alone."""

from __future__ import annotations

import torch
from torch.nn.functional import layer_norm

from isthmus.output_projectors import MLP
from isthmus.output_projectors.pooled import PooledHead, WithPooled


def test_the_head_is_its_plain_computation() -> None:
    torch.manual_seed(0)
    head = PooledHead(6, 5)
    torch.nn.init.normal_(head.norm.weight)
    states = torch.randn(3, 4, 6)
    expected = layer_norm(states.sum(1) / 4, (6,), head.norm.weight, head.norm.bias) @ head.layer.weight.T
    torch.testing.assert_close(head(states), expected + head.layer.bias)
    torch.testing.assert_close(head(states[:, [2, 0, 3, 1]]), head(states))


def test_both_halves_are_one_module_and_each_learns_from_its_own_error() -> None:
    torch.manual_seed(0)
    projector = MLP(6, 4, (2, 3), hidden=8)
    both = WithPooled(projector, 6, 5)
    states = torch.randn(3, 4, 6)
    tokens, pooled = both(states)
    assert tokens.shape == (3, 2, 3) and pooled.shape == (3, 5)
    assert torch.equal(tokens, projector(states))
    assert {name.split(".")[0] for name in both.state_dict()} == {"tokens", "pooled"}
    pooled.sum().backward()
    assert all(parameter.grad is None for parameter in both.tokens.parameters())
    assert all(parameter.grad is not None for parameter in both.pooled.parameters())
