"""A linear layer for each token, as in NExT-GPT's first version (arXiv 2309.05519) and LLaVA (arXiv 2304.08485)."""

from __future__ import annotations

from torch import Tensor, nn

from isthmus.input_projectors.base import InputProjector
from isthmus.input_projectors.expansion import expand_mask, require_positive
from isthmus.part_card import PartCard
from isthmus.types import Features


class Linear(InputProjector):
    """P = W F + b for each encoder token.

    Args:
        in_width: D.
        out_width: E.
        positions_per_token: LLM positions for each encoder token, so that M = N times this. More than one gives a
            pooled embedding (N = 1) more capacity.

    Raises:
        ValueError: a size is below one.
    """

    card = PartCard(takes="F (B, N, D)", gives="P (B, N x positions, E)", widths="the encoder's D, the LLM's E")

    def __init__(self, in_width: int, out_width: int, positions_per_token: int = 1) -> None:
        super().__init__()
        require_positive(in_width=in_width, out_width=out_width, positions_per_token=positions_per_token)
        self.out_width = out_width
        self.positions_per_token = positions_per_token
        self.layer = nn.Linear(in_width, out_width * positions_per_token)

    def positions(self, tokens: int) -> int:
        """M = N * positions_per_token."""
        return tokens * self.positions_per_token

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """F (B, N, D) -> P (B, M, E) and its mask (B, M); the positions of one token are adjacent."""
        projected = self.layer(features.tokens)
        return projected.unflatten(-1, (-1, self.out_width)).flatten(1, 2), expand_mask(
            features.mask, self.positions_per_token
        )
