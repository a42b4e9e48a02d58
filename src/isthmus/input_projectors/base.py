"""The interface of an input projector: F (B, N, D) -> P (B, M, E)."""

from __future__ import annotations

from torch import Tensor, nn

from isthmus.types import Features


class InputProjector(nn.Module):
    """A trained bridge from an encoder to the LLM.

    The first two arguments of a subclass are ``in_width`` D, ``out_width`` E.
    """

    def positions(self, tokens: int) -> int:
        """M, the number of LLM positions for a medium of N encoder tokens.

        Computed on the CPU, so that no step waits for a device.
        """
        raise NotImplementedError

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """P (B, M, E) and its mask (B, M)."""
        raise NotImplementedError
