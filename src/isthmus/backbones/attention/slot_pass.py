"""A pass over one token of each of several sequences, which attend to their own keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor


class SlotPass:
    """What packed attention needs for a pass of N slots, each of which may hold a sequence's next token.

    Args:
        caches: of the first slots' sequences, each a ``DynamicCache`` of ``transformers``; the other slots are empty.
        positions: (N,) the position of each token in its sequence; 0 in an empty slot.
    """

    def __init__(self, caches: Sequence[Any], positions: Tensor) -> None:
        self.caches = caches
        self.positions = positions

    def attend(self, states: tuple[Tensor, Tensor, Tensor], layer: int, scale: float, window: int | None) -> Tensor:
        """Queries, keys and values (1, H, N, D) of a layer -> (1, N, H, D), zero in empty slots.

        Each sequence is attended to by itself, so that the result doesn't depend on the other ones' lengths.
        """
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        query, key, value = states
        heads: Any = SimpleNamespace(num_key_value_groups=query.shape[1] // key.shape[1])
        found = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])
        for slot, cache in enumerate(self.caches):
            own = slice(slot, slot + 1)
            keys, values = cache.update(key[:, :, own], value[:, :, own], layer)
            if window is not None:
                keys, values = keys[:, :, -window:], values[:, :, -window:]
            out, _ = sdpa_attention_forward(heads, query[:, :, own], keys, values, None, scaling=scale, is_causal=False)
            found[:, own] = out
        return found
