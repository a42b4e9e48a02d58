"""Input checks of every output projector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def require_sizes(in_width: int, signals: int, condition_shape: Sequence[int]) -> tuple[int, int]:
    """The checked ``condition_shape`` as (C, K).

    Raises:
        ValueError: a size is below one, or the condition shape isn't a pair.
    """
    if len(condition_shape) != 2 or min(in_width, signals, *condition_shape) < 1:
        raise ValueError(
            f"output projector: found in_width {in_width}, signals {signals}, condition_shape "
            f"{tuple(condition_shape)}; "
            "expected sizes of at least 1 and a condition shape (C, K), which the generator gives"
        )
    return condition_shape[0], condition_shape[1]


def require_states(states: Tensor, signals: int, in_width: int) -> None:
    """Raises a ``ValueError`` unless the states are (B, signals, in_width)."""
    if states.shape[1:] != (signals, in_width):
        raise ValueError(
            f"output projector: found states {tuple(states.shape)}; expected (B, {signals}, {in_width}). "
            "Build it with the backbone's width and the vocabulary's signal count of this modality."
        )
