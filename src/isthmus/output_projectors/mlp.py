"""A multilayer perceptron on a run's flattened signal states: the cheapest bridge to a generator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from isthmus.output_projectors.base import OutputProjector
from isthmus.output_projectors.shapes import require_sizes, require_states
from isthmus.part_card import PartCard


class MLP(OutputProjector):
    """Layer norm over E, then (S * E) -> hidden -> (C * K), reshaped.

    Every condition token depends on every signal token. The last layer has hidden * C * K weights, so this suits small
    conditions (CLAP's 1 x 512); for 77 x 768 the tiny transformer has fewer weights. The norm is needed because the
    scale of final states differs between LLMs, and the first layer's initialisation assumes unit scale.

    Args:
        in_width: E.
        signals: S.
        condition_shape: (C, K), read from the generator.
        hidden: width between the layers.
        depth: number of linear layers.

    Raises:
        ValueError: a size is below one.
    """

    card = PartCard(takes="S (B, S, E)", gives="H (B, C, K)", widths="the LLM's E, the generator's (C, K)")

    def __init__(
        self, in_width: int, signals: int, condition_shape: Sequence[int], hidden: int = 512, depth: int = 2
    ) -> None:
        super().__init__()
        self.condition_shape = require_sizes(in_width, signals, condition_shape)
        if min(hidden, depth) < 1:
            raise ValueError(f"output projector: found hidden {hidden}, depth {depth}; expected at least 1")
        self.in_width, self.signals = in_width, signals
        self.norm = nn.LayerNorm(in_width)
        widths = [signals * in_width, *[hidden] * (depth - 1), self.condition_shape[0] * self.condition_shape[1]]
        layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
        for before, after in pairwise(widths[1:]):
            layers += [nn.GELU(), nn.Linear(before, after)]
        self.layers = nn.Sequential(*layers)

    def forward(self, signals: Tensor) -> Tensor:
        """S (B, S, E) -> H (B, C, K)."""
        require_states(signals, self.signals, self.in_width)
        flat: Tensor = self.layers(self.norm(signals).flatten(1))
        return flat.view(len(signals), *self.condition_shape)
