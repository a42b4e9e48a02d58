"""Rows of like length run together: the same states and gradients, less padding."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.backbones import CausalBackbone, causal
from isthmus.backbones.length_groups import length_groups

Build = Callable[..., CausalBackbone]


def cost(sizes: list[tuple[int, int]], launch: int) -> int:
    return sum(rows * length + launch for rows, length in sizes)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(0, 60))
def test_the_split_is_the_cheapest(lengths: list[int], launch: int) -> None:
    groups = length_groups(lengths, list(range(len(lengths))), launch)
    assert sorted(row for group in groups for row in group.rows) == list(range(len(lengths)))
    for group in groups:
        assert group.length == max(lengths[row] for row in group.rows)
        assert group.first == min(group.rows)
    ordered, count = sorted(lengths), len(lengths)
    splits = [cuts for size in range(count) for cuts in combinations(range(1, count), size)]
    cheapest = min(
        cost([(end - start, ordered[end - 1]) for start, end in zip((0, *cuts), (*cuts, count), strict=True)], launch)
        for cuts in splits
    )
    assert cost([(len(group.rows), group.length) for group in groups], launch) == cheapest


@pytest.mark.parametrize("skips", [True, False])
def test_grouped_rows_give_the_same_loss_states_and_gradients(
    build: Build, kit: Any, monkeypatch: pytest.MonkeyPatch, skips: bool
) -> None:
    passes: list[int] = []

    def run(launch: int) -> tuple[torch.Tensor, dict[Any, torch.Tensor], list[torch.Tensor]]:
        monkeypatch.setitem(causal.LAUNCH, "cpu", launch)
        torch.manual_seed(3)
        backbone = kit["awaken"](build(lora=kit["lora"]()))
        backbone.skip_prefix_gradients = skips
        for parameter in backbone.parameters():
            parameter.requires_grad_(False)
        trained = [backbone.rows.signal_rows, backbone.rows.run_starts]
        for parameter in trained:
            parameter.requires_grad_(True)
        batch, media = kit["conversation_batch"](backbone, text=6)
        plain = backbone._transform
        monkeypatch.setattr(backbone, "_transform", lambda *args: (passes.append(args[0].shape[0]), plain(*args))[1])
        output = backbone(batch, media)
        loss = output.text_loss + sum(states.square().sum() for states in output.signals.values())
        gradients = torch.autograd.grad(loss, trained)
        return output.text_loss.detach(), output.signals, list(gradients)

    together = run(10**9)
    rows = passes[0]
    passes.clear()
    apart = run(0)
    assert len(passes) > 1 and max(passes) < rows, "every length runs by itself"
    torch.testing.assert_close(apart[0], together[0], rtol=1e-5, atol=1e-5)
    for modality, states in together[1].items():
        torch.testing.assert_close(apart[1][modality], states, rtol=1e-4, atol=1e-5)
    for found, expected in zip(apart[2], together[2], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
