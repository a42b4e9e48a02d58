"""Shared by projectors that keep the order of the encoder's tokens."""

from __future__ import annotations

from torch import Tensor


def expand_mask(mask: Tensor, positions_per_token: int) -> Tensor:
    """(B, N) -> (B, N * positions_per_token): each token's mask is repeated for all of its positions."""
    return mask.repeat_interleave(positions_per_token, dim=1)


def require_positive(**sizes: int) -> None:
    """Raises a ``ValueError`` that names the first size below one."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"input projector: found {name} {size}; expected at least 1")
