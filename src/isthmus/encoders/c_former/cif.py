"""Continuous integrate-and-fire (Dong & Xu, arXiv 1905.11235): frames of speech -> one token for each unit of weight.

Every frame gets a weight between 0 and 1. Weights are summed along time. Whenever the sum reaches 1, a token fires: the
weighted sum of the frames since the last one; the rest of the last frame's weight begins the next token.
So the content decides how many tokens there are and where they begin.
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
"""The unfinished token at the end is kept if its weight exceeds this."""
KERNEL = 3
"""The kernel of the convolution that computes weights, in frames."""


@dataclass
class Fired:
    """The tokens that fired.

    Attributes:
        tokens: (B, N, D), zeros where the mask is False.
        mask: (B, N) bool; the first of each row are valid.
        quantity: (B,) the sum of the weights before any scaling: the predicted number of tokens.
    """

    tokens: Tensor
    mask: Tensor
    quantity: Tensor


def fire_counts(sums: Tensor, threshold: float = FIRING_THRESHOLD) -> Tensor:
    """(B, T) int64: the number of tokens fired up to and including each frame; a frame fires at most one.

    Without that limit, a sum s would have fired free = floor(s + 1 - threshold) tokens, since each uses up 1. With the
    limit, count[t] = min(free[t], count[t - 1] + 1), which equals t + the running minimum of min(free[t] - t, 1).

    Args:
        sums: (B, T), cumulative sums of the weights, which never decrease.
        threshold: at which a token fires.
    """
    times = torch.arange(sums.shape[1], device=sums.device)
    owed = (sums + (1 - threshold)).floor().long() - times
    return times + owed.clamp(max=1).cummin(1).values


def integrate_and_fire(
    frames: Tensor, weights: Tensor, mask: Tensor, tail: Tensor | None = None, threshold: float = FIRING_THRESHOLD
) -> tuple[Tensor, Tensor]:
    """Frames and their weights -> tokens (B, N, D) and their mask (B, N); N is that of the row with the most.

    Gradients flow into frames and weights, but not through the positions at which tokens begin and end.

    Args:
        frames: (B, T, D).
        weights: (B, T), 0 or more.
        mask: (B, T) bool, True on the first frames of each row. Masked frames have weight 0 and fire nothing.
        tail: (B,) bool, rows whose last, unfinished token is kept, as the weighted mean of its frames. None: no row.
        threshold: at which a token fires.
    """
    weights = weights.masked_fill(~mask, 0)
    if weights.dtype is not torch.float64:
        weights = weights.float()  # sums in half precision would lose tokens
    sums = weights.cumsum(1)
    after = fire_counts(sums.detach(), threshold)
    before = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
    lengths = mask.sum(1, keepdim=True)
    counts = torch.where(lengths > 0, after.gather(1, (lengths - 1).clamp(min=0)), 0)[:, 0]
    # When a frame fires, the finished token gets the weight that it missing to 1, and the next token the rest.
    missing = 1 - (sums - weights - before)
    old = torch.where(mask & (after > before), missing, weights)
    new = weights - old
    totals = counts if tail is None else counts + tail
    most = int(totals.max())  # a device synchronisation: the number of tokens depends on the values
    shares = weights.new_zeros(len(weights), most + 1, weights.shape[1])
    shares = shares.scatter_add(1, before.clamp(max=most)[:, None], old[:, None])
    shares = shares.scatter_add(1, after.clamp(max=most)[:, None], new[:, None])[:, :most]
    steps = torch.arange(most, device=weights.device)
    token_mask = steps < totals[:, None]
    if tail is not None:
        remainder = torch.where(tail, sums[:, -1] - counts, 1)[:, None, None]
        is_tail = (steps == counts[:, None])[..., None]
        shares = torch.where(is_tail, shares / (remainder + 1e-10), shares)
    shares = shares.masked_fill(~token_mask[..., None], 0)
    return shares.to(frames.dtype) @ frames.masked_fill(~mask[..., None], 0), token_mask


class ContinuousIntegrateAndFire(nn.Module):
    """Computes weights from frames and fires tokens, with the parameters of CIF-PyTorch's ``CifMiddleware``.

    Args:
        width: of the frames.
        out_width: of the tokens; if it differs, a linear layer without bias follows.
        weight_type: a weight is sigmoid(linear(x)), where x is: ``conv``, a convolution over three frames; ``dense``, a
            linear layer with ReLU; ``linear``, the frame itself.

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
        """Frames (B, T, width), mask (B, T) -> their weights (B, T), 0 where the mask is False.

        The convolution reads masked frames too: set them to zero if the result must not depend on them.
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
            lengths: (B,) the number of tokens, if known, as in training: weights are scaled to sum to it (section 3.3
                of the paper). Otherwise the weights decide; the rest at the end becomes a token if its weight exceeds
                one half, or if it is the only one. As in the original code, a row without a masked frame at its end
                loses this last token: append a frame.
        """
        weights = self.weights(frames, mask)
        quantity = weights.float().sum(1)
        if lengths is not None:
            scaled = weights.float() * (lengths / quantity.clamp(min=1e-6))[:, None]
            tokens, token_mask = integrate_and_fire(frames, scaled, mask)
        else:
            fired = fire_counts(weights.detach().float().cumsum(1))[:, -1]
            tail = (quantity - fired > TAIL_THRESHOLD) | (fired < 1)
            tokens, token_mask = integrate_and_fire(frames, weights, mask, tail & ~mask.all(1))
        if self.cif_output_proj is not None:
            tokens = self.cif_output_proj(tokens)
        return Fired(tokens, token_mask, quantity)
