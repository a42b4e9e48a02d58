"""Integrate-and-fire: equal to the original's outputs, and to a plain loop over frames; gradients and faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from isthmus.encoders.c_former.cif import (
    FIRING_THRESHOLD,
    WEIGHT_TYPES,
    ContinuousIntegrateAndFire,
    WeightType,
    fire_counts,
    integrate_and_fire,
)

Row = list[float]
WEIGHTS = st.floats(0, 1).map(lambda value: round(value, 3) + 0.0001)
"""Off the threshold's own grid: there the order of additions would decide."""


def loop(frames: Tensor, weights: Row, tail: bool) -> list[Tensor]:
    """One row, frame after frame: frames (T, D) -> its tokens."""
    tokens: list[Tensor] = []
    sum_, state = 0.0, torch.zeros_like(frames[0])
    for frame, weight in zip(frames, weights, strict=True):
        if sum_ + weight >= FIRING_THRESHOLD:
            lacks = 1 - sum_
            tokens.append(state + lacks * frame)
            sum_, state = weight - lacks, (weight - lacks) * frame
        else:
            sum_, state = sum_ + weight, state + weight * frame
    return [*tokens, state / sum_] if tail else tokens


def padded(rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Frames (B, T, 3), weights (B, T) with something behind each row's end, and the mask."""
    longest = max(map(len, rows)) + 1
    mask = torch.tensor([[step < len(row) for step in range(longest)] for row in rows])
    weights = torch.full(mask.shape, 0.7, dtype=torch.float64)
    for into, row in zip(weights, rows, strict=True):
        into[: len(row)] = torch.tensor(row, dtype=torch.float64)
    frames = torch.randn(*mask.shape, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return frames.masked_fill(~mask[..., None], torch.nan), weights, mask


@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
@pytest.mark.parametrize("mode", ["train", "eval"])
@torch.no_grad()
def test_equals_the_original(
    golden_file: Callable[[str], Any],
    assert_close: Callable[[Tensor, Tensor, str], None],
    weight_type: WeightType,
    mode: str,
) -> None:
    golden = golden_file("cif")
    cif = ContinuousIntegrateAndFire(16, 12, weight_type)
    prefix = f"{weight_type}."
    cif.load_state_dict({k.removeprefix(prefix): v for k, v in golden.state.items() if k.startswith(prefix)})
    frames, mask = golden.inputs["encoder_raw_out"], ~golden.inputs["encoder_padding_mask"]
    fired = cif(frames, mask, golden.inputs["target_lengths"] if mode == "train" else None)
    expected = {name: golden.outputs[f"{prefix}{mode}.{name}"] for name in ("cif_out", "quantity_out")}
    assert_close(fired.tokens, expected["cif_out"], "tokens")
    assert_close(fired.quantity, expected["quantity_out"], "quantity")
    assert torch.equal(fired.mask.int(), golden.outputs[f"{prefix}{mode}.cif_out_padding_mask"])
    if mode == "train":
        assert torch.equal(fired.mask.sum(1), golden.inputs["target_lengths"].long())


@given(rows=st.lists(st.lists(WEIGHTS, min_size=1, max_size=25), min_size=1, max_size=4), scale=st.floats(0.2, 3.0))
def test_equals_a_loop_over_frames(rows: list[Row], scale: float) -> None:
    rows = [[weight * scale for weight in row] for row in rows]  # above 1, as scaling to a length makes them
    frames, weights, mask = padded(rows)
    tail = torch.tensor([sum(row) - len(loop(frames[i][: len(row)], row, False)) > 0.5 for i, row in enumerate(rows)])
    tokens, shown = integrate_and_fire(frames, weights, mask, tail)
    for i, row in enumerate(rows):
        expected = loop(frames[i, : len(row)], row, bool(tail[i]))
        assert shown[i].tolist() == [step < len(expected) for step in range(tokens.shape[1])]
        for found, wanted in zip(tokens[i], expected, strict=False):
            torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-6)
    assert not tokens[~shown].any() and (shown.any(0).all() or tokens.shape[1] == 0)


@given(row=st.lists(WEIGHTS, min_size=1, max_size=60))
def test_tokens_share_out_what_the_frames_weigh(row: Row) -> None:
    """Of frames that are all ones, each token is 1, whatever the weights: none is lost and none made up."""
    weights = torch.tensor([row], dtype=torch.float64)
    mask = torch.ones_like(weights, dtype=torch.bool)
    tokens, shown = integrate_and_fire(weights.new_ones(1, len(row), 1), weights, mask)
    torch.testing.assert_close(tokens, torch.ones_like(tokens))
    assert int(shown.sum()) == int(sum(row) + 1 - FIRING_THRESHOLD) == int(fire_counts(weights.cumsum(1))[0, -1])


def test_at_most_one_token_a_frame() -> None:
    sums = torch.tensor([[2.5, 2.6, 2.7, 2.8, 5.0, 5.0]]).double()
    assert fire_counts(sums).tolist() == [[1, 2, 2, 2, 3, 4]]
    tokens, shown = integrate_and_fire(torch.ones(1, 1, 1), torch.tensor([[3.0]]), torch.ones(1, 1, dtype=torch.bool))
    assert tokens.tolist() == [[[1.0]]] and shown.tolist() == [[True]]


@pytest.mark.parametrize("tail", [False, True])
def test_gradients(tail: bool) -> None:
    frames, weights, mask = padded([[0.3, 0.5, 0.42, 0.9, 0.61, 0.2, 0.7], [0.4, 0.4, 0.31, 0.77]])
    frames = frames.nan_to_num().requires_grad_()
    weights.requires_grad_()
    ends = torch.tensor([True, True]) if tail else None

    def run(frames: Tensor, weights: Tensor) -> Tensor:
        return integrate_and_fire(frames, weights, mask, ends)[0]

    assert torch.autograd.gradcheck(run, (frames, weights))
    run(frames, weights).square().sum().backward()
    assert frames.grad is not None and weights.grad is not None
    assert not frames.grad[~mask].any() and not weights.grad[~mask].any()
    assert weights.grad[mask].count_nonzero() >= mask.sum() - (0 if tail else 4)


@torch.no_grad()
def test_half_precision_counts_alike() -> None:
    weights = torch.full((1, 3000), 0.125)
    mask = torch.ones_like(weights, dtype=torch.bool)
    frames = torch.ones(1, 3000, 2, dtype=torch.bfloat16)
    tokens, shown = integrate_and_fire(frames, weights.bfloat16(), mask)
    assert tokens.dtype is torch.bfloat16 and int(shown.sum()) == 375


@torch.no_grad()
def test_a_row_is_never_empty_and_does_not_depend_on_its_neighbours() -> None:
    cif = ContinuousIntegrateAndFire(4, 4)
    assert cif.cif_output_proj is None
    cif.weight_proj.bias.fill_(-3.0)
    frames, mask = torch.zeros(2, 30, 4), torch.zeros(2, 30, dtype=torch.bool)
    frames[0, :3], mask[0, :3] = torch.randn(3, 4), True
    frames[1, :29], mask[1, :29] = torch.randn(29, 4), True
    fired = cif(frames, mask)
    assert float(fired.quantity[0]) < 0.5 and fired.mask.sum(1).tolist()[0] == 1
    weights = cif.weights(frames, mask)[0, :3]
    torch.testing.assert_close(fired.tokens[0, 0], weights @ frames[0, :3] / weights.sum(), atol=1e-6, rtol=1e-5)
    for row, length in enumerate((3, 29)):
        alone = cif(frames[row : row + 1, : length + 1], mask[row : row + 1, : length + 1])
        torch.testing.assert_close(alone.tokens[0], fired.tokens[row][fired.mask[row]], atol=1e-6, rtol=1e-5)


def test_an_unknown_weight_type() -> None:
    with pytest.raises(ValueError, match="weight_type: found 'lstm'; expected one of conv, dense, linear"):
        ContinuousIntegrateAndFire(4, 4, "lstm")  # type: ignore[arg-type]
