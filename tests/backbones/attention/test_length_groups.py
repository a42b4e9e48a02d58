"""Rows of like length run together: the same states and gradients, less padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, permutations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.backbones import CausalBackbone
from isthmus.backbones.attention.length_groups import LAUNCH, length_groups

Build = Callable[..., CausalBackbone]


Row = tuple[int, int]
"""Length, and the first position that learns."""


def cost(groups: list[list[Row]], launch: int) -> int:
    """Twice the positions that run: those before the first that learns have no backward pass and count half."""
    return sum(
        len(rows) * (2 * max(length - first for length, first in rows) + max(first for _, first in rows)) + 2 * launch
        for rows in groups
    )


def splits(rows: list[Row]) -> Iterator[list[list[Row]]]:
    """Every way to cut a row of rows."""
    for size in range(len(rows)):
        for cuts in combinations(range(1, len(rows)), size):
            yield [rows[start:end] for start, end in zip((0, *cuts), (*cuts, len(rows)), strict=True)]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 50)), min_size=1, max_size=7), st.integers(0, 60))
def test_the_split_is_the_cheapest(drawn: list[Row], launch: int) -> None:
    groups = length_groups([length for length, _ in drawn], [first for _, first in drawn], launch)
    assert sorted(row for group in groups for row in group.rows) == list(range(len(drawn)))
    reached = [(length, min(first, length)) for length, first in drawn]
    for group in groups:
        assert list(zip(group.lengths, group.firsts, strict=True)) == [reached[row] for row in group.rows]
        assert group.length == max(group.lengths) and group.first == min(group.firsts)
    found = cost([[reached[row] for row in group.rows] for group in groups], launch)
    ordered = sorted(reached, key=lambda row: (row[0] - row[1], row[0]))
    assert found == min(cost(split, launch) for split in splits(ordered))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(0, 60))
def test_where_all_learns_no_split_of_any_order_is_cheaper(lengths: list[int], launch: int) -> None:
    groups = length_groups(lengths, [0] * len(lengths), launch)
    rows = [(length, 0) for length in lengths]
    found = cost([[rows[row] for row in group.rows] for group in groups], launch)
    orders = permutations(rows) if len(rows) <= 4 else [tuple(sorted(rows)), tuple(rows)]
    assert all(found <= cost(split, launch) for order in orders for split in splits(list(order)))


@pytest.mark.parametrize("skips", [True, False])
def test_grouped_rows_give_the_same_loss_states_and_gradients(
    build: Build, kit: Any, monkeypatch: pytest.MonkeyPatch, skips: bool
) -> None:
    passes: list[int] = []

    def run(launch: int) -> tuple[torch.Tensor, dict[Any, torch.Tensor], list[torch.Tensor]]:
        monkeypatch.setitem(LAUNCH, "cpu", launch)
        torch.manual_seed(3)
        backbone = kit["awaken"](build(lora=kit["lora"](), packing=False))
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
