"""Neighbouring tokens merged into one position, as in MiniGPT-v2 (arXiv 2310.09478, section 2.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.input_projectors.base import InputProjector
from isthmus.input_projectors.expansion import require_positive
from isthmus.part_card import PartCard
from isthmus.types import Features


class TokenMerging(InputProjector):
    """``tokens_per_position`` neighbouring tokens, concatenated, through one linear layer, or two.

    Neighbours are those of the sequence: raster order, for an image. If N isn't a multiple, the last position's missing
    tokens are zeros. Masked tokens are removed before tokens are grouped, so that padding, wherever it is, neither
    changes valid positions nor adds any.

    Args:
        in_width: D.
        out_width: E.
        tokens_per_position: tokens merged into one LLM position, 4 in MiniGPT-v2.
        hidden_width: width between two layers with a GELU between them, as Qwen2-VL merges (arXiv 2409.12191); one
            layer if None, as in MiniGPT-v2.

    Raises:
        ValueError: a size is below one.
    """

    card = PartCard(takes="F (B, N, D)", gives="P (B, N / 4, E)", widths="the encoder's D, the LLM's E")

    def __init__(
        self, in_width: int, out_width: int, tokens_per_position: int = 4, hidden_width: int | None = None
    ) -> None:
        super().__init__()
        require_positive(in_width=in_width, out_width=out_width, tokens_per_position=tokens_per_position)
        self.tokens_per_position = tokens_per_position
        merged = in_width * tokens_per_position
        self.layer: nn.Module
        if hidden_width is None:
            self.layer = nn.Linear(merged, out_width)
        else:
            require_positive(hidden_width=hidden_width)
            self.layer = nn.Sequential(nn.Linear(merged, hidden_width), nn.GELU(), nn.Linear(hidden_width, out_width))

    def positions(self, tokens: int) -> int:
        """M = N / tokens_per_position, rounded up."""
        return -(-tokens // self.tokens_per_position)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """F (B, N, D) -> P (B, M, E) and its mask (B, M)."""
        order = features.mask.int().argsort(dim=1, descending=True, stable=True)  # valid tokens first, in their order
        mask = features.mask.gather(1, order)
        tokens = features.tokens.gather(1, order[..., None].expand_as(features.tokens))
        tokens = torch.where(mask[..., None], tokens, 0)
        count = mask.shape[1]
        missing = self.positions(count) * self.tokens_per_position - count
        tokens, mask = F.pad(tokens, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        merged = tokens.unflatten(1, (-1, self.tokens_per_position)).flatten(2)
        return self.layer(merged), mask.unflatten(1, (-1, self.tokens_per_position)).any(-1)
