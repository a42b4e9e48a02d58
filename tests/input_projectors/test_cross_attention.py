"""The resampler against a plain recomputation of Flamingo's, and its size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from isthmus.input_projectors import CrossAttention
from isthmus.types import Features


def normed(states: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def resampled(tokens: Tensor, weights: dict[str, Tensor], depth: int, heads: int) -> Tensor:
    """One medium (N, D) -> (M, E), head by head and with no mask, as the paper's pseudo-code reads."""
    media = tokens @ weights["project_in.weight"].T + weights["project_in.bias"]
    states = weights["queries"]
    size = states.shape[-1] // heads
    for block in range(depth):
        own = {name.removeprefix(f"blocks.{block}."): value for name, value in weights.items()}
        queries = normed(states, own, "norm_states")
        seen = torch.cat([normed(media, own, "norm_tokens"), queries])
        key_weight, value_weight = own["key_value.weight"].chunk(2)
        query, key, value = queries @ own["query.weight"].T, seen @ key_weight.T, seen @ value_weight.T
        attended = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            attended.append((query[:, part] @ key[:, part].T / math.sqrt(size)).softmax(-1) @ value[:, part])
        states = states + torch.cat(attended, -1) @ own["out.weight"].T
        inner = normed(states, own, "feed_forward.0") @ own["feed_forward.1.weight"].T
        states = states + gelu(inner) @ own["feed_forward.3.weight"].T
    return normed(states, weights, "norm") @ weights["project_out.weight"].T + weights["project_out.bias"]


def test_equals_a_plain_recomputation() -> None:
    torch.manual_seed(0)
    bridge = CrossAttention(6, 10, queries=4, width=8, depth=3, heads=2)
    for parameter in bridge.parameters():
        parameter.data.normal_(0, 0.4)
    tokens = torch.randn(2, 7, 6)
    mask = torch.arange(7) < torch.tensor([[7], [3]])
    projected, shown = bridge(Features(tokens, mask))
    assert shown.all()
    for row in range(2):
        expected = resampled(tokens[row][mask[row]], dict(bridge.state_dict()), depth=3, heads=2)
        torch.testing.assert_close(projected[row], expected, rtol=1e-4, atol=1e-5)


def test_a_medium_without_tokens_is_finite() -> None:
    projected, _ = CrossAttention(6, 10, queries=2, heads=2)(Features(torch.randn(1, 3, 6), torch.zeros(1, 3).bool()))
    assert projected.isfinite().all()


def test_width_is_the_encoders_by_default() -> None:
    with torch.device("meta"):
        bridge = CrossAttention(1024, 4096)
    block = 2 * 2 * 1024 + 4 * 1024**2 + 2 * 1024 + 8 * 1024**2
    ends = (1024**2 + 1024) + 64 * 1024 + 2 * 1024 + (1024 * 4096 + 4096)
    assert sum(parameter.numel() for parameter in bridge.parameters()) == 6 * block + ends
