"""A multilayer perceptron applied to each token, as in LLaVA-1.5 (arXiv 2310.03744)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from isthmus.input_projectors.base import InputProjector
from isthmus.input_projectors.expansion import expand_mask, require_positive
from isthmus.part_card import PartCard
from isthmus.types import Features

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class MLP(InputProjector):
    """``depth`` linear layers with an activation between them, for each encoder token.

    Args:
        in_width: D.
        out_width: E.
        hidden: width between the layers; E if None, as in LLaVA-1.5.
        depth: number of linear layers; 2 is LLaVA-1.5's, 1 is :class:`~isthmus.input_projectors.linear.Linear`.
        activation: ``gelu``, ``relu`` or ``silu``.
        positions_per_token: LLM positions for each encoder token, so that M = N times this.

    Raises:
        ValueError: a size is below one, or the activation is unknown.
    """

    card = PartCard(takes="F (B, N, D)", gives="P (B, N x positions, E)", widths="the encoder's D, the LLM's E")

    def __init__(
        self,
        in_width: int,
        out_width: int,
        hidden: int | None = None,
        depth: int = 2,
        activation: Literal["gelu", "relu", "silu"] = "gelu",
        positions_per_token: int = 1,
    ) -> None:
        super().__init__()
        hidden = out_width if hidden is None else hidden
        require_positive(
            in_width=in_width, out_width=out_width, hidden=hidden, depth=depth, positions_per_token=positions_per_token
        )
        if activation not in ACTIVATIONS:
            raise ValueError(f"input projector: unknown activation '{activation}'; known: {', '.join(ACTIVATIONS)}")
        self.out_width = out_width
        self.positions_per_token = positions_per_token
        widths = [in_width, *[hidden] * (depth - 1), out_width * positions_per_token]
        layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
        for before, after in pairwise(widths[1:]):
            layers += [ACTIVATIONS[activation](), nn.Linear(before, after)]
        self.layers = nn.Sequential(*layers)

    def positions(self, tokens: int) -> int:
        """M = N * positions_per_token."""
        return tokens * self.positions_per_token

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """F (B, N, D) -> P (B, M, E) and its mask (B, M); the positions of one token are adjacent."""
        projected = self.layers(features.tokens)
        return projected.unflatten(-1, (-1, self.out_width)).flatten(1, 2), expand_mask(
            features.mask, self.positions_per_token
        )
