"""The interface of an output projector: S (B, S, E) -> H (B, C, K)."""

from __future__ import annotations

from torch import Tensor, nn


class OutputProjector(nn.Module):
    """A trained bridge from the LLM to a generator.

    The first arguments of a subclass are ``in_width`` E, ``signals`` S and ``condition_shape`` (C, K), which is read
    from the generator.
    """

    def forward(self, signals: Tensor) -> Tensor:
        """S (B, S, E) -> H (B, C, K)."""
        raise NotImplementedError
