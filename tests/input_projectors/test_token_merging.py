"""Merging neighbours: which tokens make which position."""

from __future__ import annotations

import pytest
import torch

from isthmus.input_projectors import TokenMerging
from isthmus.types import Features


def test_four_neighbours_in_raster_order_make_one_position() -> None:
    torch.manual_seed(0)
    bridge = TokenMerging(6, 10)
    grid = torch.randn(1, 4, 4, 6)  # rows and columns of an image
    projected, mask = bridge(Features(grid.flatten(1, 2), torch.ones(1, 16, dtype=torch.bool)))
    assert mask.all() and bridge.positions(16) == 4
    for row in range(4):
        expected = torch.cat(list(grid[0, row])) @ bridge.layer.weight.T + bridge.layer.bias
        torch.testing.assert_close(projected[0, row], expected)


def test_missing_tokens_of_the_last_position_are_zeros() -> None:
    torch.manual_seed(0)
    bridge = TokenMerging(6, 10)
    tokens = torch.randn(1, 5, 6)
    projected, mask = bridge(Features(tokens, torch.ones(1, 5, dtype=torch.bool)))
    assert mask.all() and projected.shape[1] == 2
    torch.testing.assert_close(projected[0, 1], tokens[0, 4] @ bridge.layer.weight[:, :6].T + bridge.layer.bias)


def test_two_layers_with_a_hidden_width() -> None:
    torch.manual_seed(0)
    bridge = TokenMerging(6, 10, tokens_per_position=2, hidden_width=7)
    tokens = torch.randn(1, 4, 6)
    projected, _ = bridge(Features(tokens, torch.ones(1, 4, dtype=torch.bool)))
    first, _, second = bridge.layer
    inner = torch.nn.functional.gelu(tokens.reshape(1, 2, 12) @ first.weight.T + first.bias)
    torch.testing.assert_close(projected, inner @ second.weight.T + second.bias)
    with pytest.raises(ValueError, match="found hidden_width 0; expected at least 1"):
        TokenMerging(6, 10, hidden_width=0)


def test_full_size_has_minigpt_v2s_parameters() -> None:
    with torch.device("meta"):
        bridge = TokenMerging(1408, 4096)
    assert sum(parameter.numel() for parameter in bridge.parameters()) == 4 * 1408 * 4096 + 4096
    assert bridge.positions(1024) == 256  # 448 pixels, patches of 14
