"""A bridge's head for generators that take a pooled vector besides tokens."""

from __future__ import annotations

from torch import Tensor, nn

from isthmus.output_projectors.base import OutputProjector


class PooledHead(nn.Module):
    """The mean of the signal states, layer norm, linear to K'.

    Args:
        in_width: E.
        pooled_width: K', read from the generator.
    """

    def __init__(self, in_width: int, pooled_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_width)
        self.layer = nn.Linear(in_width, pooled_width)

    def forward(self, signals: Tensor) -> Tensor:
        """S (B, S, E) -> (B, K')."""
        pooled: Tensor = self.layer(self.norm(signals.mean(1)))
        return pooled


class WithPooled(nn.Module):
    """A projector and a pooled head, trained and saved as one part.

    Args:
        tokens: the projector of H's tokens.
        in_width: E.
        pooled_width: K', read from the generator.
    """

    def __init__(self, tokens: OutputProjector, in_width: int, pooled_width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.pooled = PooledHead(in_width, pooled_width)

    def forward(self, signals: Tensor) -> tuple[Tensor, Tensor]:
        """S (B, S, E) -> H's tokens (B, C, K) and pooled vector (B, K')."""
        return self.tokens(signals), self.pooled(signals)
