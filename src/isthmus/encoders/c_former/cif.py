"""Continuous integrate-and-fire (Dong & Xu, arXiv 1905.11235): frames of speech -> one token for each unit of weight.

Every frame gets a weight between 0 and 1. Weights are summed along time; whenever the sum reaches a token's worth, the
frames behind it, each times its weight, have become a token, and what is left of the last frame begins the next one.
So the content says how many tokens there are and where they begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

WeightType = Literal["conv", "dense", "linear"]
WEIGHT_TYPES: tuple[WeightType, ...] = ("conv", "dense", "linear")
FIRING_THRESHOLD = 0.99
"""The sum at which a token fires. It is then charged a full 1, so that a rounded sum loses no token."""
TAIL_THRESHOLD = 0.5
"""A last, unfinished token counts where it weighs more than this."""
KERNEL = 3
"""Frames that the weights' convolution sees."""


@dataclass
class Fired:
    """What was fired.

    Attributes:
        tokens: (B, N, D), zeros where the mask hides.
        mask: (B, N) bool; the first of each row are valid.
        quantity: (B,) the sum of the weights before any scaling: how many tokens the frames were taken for.
    """

    tokens: Tensor
    mask: Tensor
    quantity: Tensor


def fire_counts(sums: Tensor, threshold: float = FIRING_THRESHOLD) -> Tensor:
    """(B, T) int64: how many tokens have fired up to and with each frame; a frame fires one at most.

    Were there no such limit, a sum s would have fired floor(s + 1 - threshold) tokens, since each is charged 1. With
    it, count[t] = min(that, count[t - 1] + 1), which is t + the running minimum of (that - t), and of 1.

    Args:
        sums: (B, T) of the weights up to and with each frame; they never fall.
        threshold: at which a token fires.
    """
    times = torch.arange(sums.shape[1], device=sums.device)
    owed = (sums + (1 - threshold)).floor().long() - times
    return times + owed.clamp(max=1).cummin(1).values


def integrate_and_fire(
    frames: Tensor, weights: Tensor, mask: Tensor, tail: Tensor | None = None, threshold: float = FIRING_THRESHOLD
) -> tuple[Tensor, Tensor]:
    """Frames and their weights -> tokens (B, N, D) and their mask (B, N); N is that of the row with the most.

    Gradients flow into frames and weights; where tokens begin and end is no function that has one.

    Args:
        frames: (B, T, D).
        weights: (B, T), 0 or more.
        mask: (B, T) bool, True on the first frames of each row. Hidden ones have no weight and fire nothing.
        tail: (B,) bool, where a row's last, unfinished token is given too, as the mean of its frames. Nowhere if None.
        threshold: at which a token fires.
    """
    weights = weights.masked_fill(~mask, 0)
    if weights.dtype is not torch.float64:
        weights = weights.float()  # sums of half numbers would lose tokens
    sums = weights.cumsum(1)
    after = fire_counts(sums.detach(), threshold)
    before = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
    lengths = mask.sum(1, keepdim=True)
    counts = torch.where(lengths > 0, after.gather(1, (lengths - 1).clamp(min=0)), 0)[:, 0]
    # Of a frame that fires, the old token gets what it lacks of 1, and the new one the rest.
    lacks = 1 - (sums - weights - before)
    old = torch.where(mask & (after > before), lacks, weights)
    new = weights - old
    given = counts if tail is None else counts + tail
    most = int(given.max())  # the device is waited for: nothing else says how many tokens there are
    shares = weights.new_zeros(len(weights), most + 1, weights.shape[1])
    shares = shares.scatter_add(1, before.clamp(max=most)[:, None], old[:, None])
    shares = shares.scatter_add(1, after.clamp(max=most)[:, None], new[:, None])[:, :most]
    steps = torch.arange(most, device=weights.device)
    shown = steps < given[:, None]
    if tail is not None:
        remainder = torch.where(tail, sums[:, -1] - counts, 1)[:, None, None]
        is_tail = (steps == counts[:, None])[..., None]
        shares = torch.where(is_tail, shares / (remainder + 1e-10), shares)
    shares = shares.masked_fill(~shown[..., None], 0)
    return shares.to(frames.dtype) @ frames.masked_fill(~mask[..., None], 0), shown


class ContinuousIntegrateAndFire(nn.Module):
    """Weights from the frames themselves, and what they fire, in the layout of CIF-PyTorch's ``CifMiddleware``.

    Args:
        width: of the frames.
        out_width: of the tokens; a linear layer without bias where it differs.
        weight_type: the weight is sigmoid(linear(.)) of: ``conv``, a convolution over three frames; ``dense``, a linear
            layer with ReLU; ``linear``, the frame itself.

    Raises:
        ValueError: an unknown weight type.
    """

    def __init__(self, width: int, out_width: int, weight_type: WeightType = "conv") -> None:
        super().__init__()
        if weight_type not in WEIGHT_TYPES:
            raise ValueError(f"weight_type: found '{weight_type}'; expected one of {', '.join(WEIGHT_TYPES)}")
        self.weight_type = weight_type
        if weight_type == "conv":
            self.conv = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        elif weight_type == "dense":
            self.dense_proj = nn.Linear(width, width)
        self.weight_proj = nn.Linear(width, 1)
        self.cif_output_proj = nn.Linear(width, out_width, bias=False) if out_width != width else None

    def weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Frames (B, T, width), mask (B, T) -> their weights (B, T), 0 where the mask hides.

        The convolution sees hidden frames: set them to zero where a row should not depend on them.
        """
        states = frames
        if self.weight_type == "conv":
            states = self.conv(frames.transpose(1, 2)).transpose(1, 2)
        elif self.weight_type == "dense":
            states = self.dense_proj(frames).relu()
        weights: Tensor = self.weight_proj(states)[..., 0].sigmoid().masked_fill(~mask, 0)
        return weights

    def forward(self, frames: Tensor, mask: Tensor, lengths: Tensor | None = None) -> Fired:
        """Frames (B, T, width), mask (B, T) -> tokens (B, N, out_width).

        Args:
            frames: of the speech encoder.
            mask: bool, True on the first frames of each row.
            lengths: (B,) how many tokens there are, where that is known, as in training: weights are scaled to sum to
                it (section 3.3 of the paper). Otherwise the weights decide, and what is left at the end is a token too
                if it weighs more than half of one, or is all there is. As in the original, a row without a hidden frame
                behind it loses that last one: append a frame.
        """
        weights = self.weights(frames, mask)
        quantity = weights.float().sum(1)
        if lengths is not None:
            scaled = weights.float() * (lengths / quantity.clamp(min=1e-6))[:, None]
            tokens, shown = integrate_and_fire(frames, scaled, mask)
        else:
            fired = fire_counts(weights.detach().float().cumsum(1))[:, -1]
            tail = (quantity - fired > TAIL_THRESHOLD) | (fired < 1)
            tokens, shown = integrate_and_fire(frames, weights, mask, tail & ~mask.all(1))
        if self.cif_output_proj is not None:
            tokens = self.cif_output_proj(tokens)
        return Fired(tokens, shown, quantity)
