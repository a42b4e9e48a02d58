"""A key-value cache kept between a conversation's turns, so that only new positions run through the LLM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class KeptPrefix:
    """A key-value cache of one sequence, and the embeddings from which it was computed.

    Keys and values depend only on the embeddings up to their position. So they are reused for the longest common prefix
    of the next prompt's embeddings, compared bit by bit: words, projected media and signal tokens alike. If a chat
    template rewrites earlier turns, a turn is left out or the new tokens' rows change, the common prefix is shorter.
    The cache is for one LLM with fixed weights.

    Attributes:
        reused: number of the last prompt's positions that weren't computed again.
    """

    def __init__(self) -> None:
        self._cache: Any = None
        self._embeddings: Tensor | None = None
        self.reused = 0

    def take(self, prompt: Tensor, fresh: Callable[[], Any]) -> Any:
        """A cache that holds the first :attr:`reused` positions of a prompt (1, T, E), at most T - 1.

        It is removed from this object, so that a partly filled cache isn't reused if a pass through the LLM fails.

        Args:
            prompt: its embeddings.
            fresh: makes an empty cache.
        """
        cache, held = self._cache, self._embeddings
        self._cache, self._embeddings, self.reused = None, None, 0
        if cache is None or held is None or held.dtype != prompt.dtype or held.device != prompt.device:
            return fresh()
        most = min(held.shape[1], prompt.shape[1] - 1)
        differs = (held[0, :most] != prompt[0, :most]).any(-1).nonzero()
        common = int(differs[0]) if len(differs) else most
        surplus = held.shape[1] - common
        if common == 0 or (surplus and not _can_shorten(cache)):
            return fresh()
        if surplus:
            cache.crop(-surplus)
        self.reused = common
        return cache

    def keep(self, cache: Any, embeddings: Tensor) -> None:
        """Keeps a cache, and the embeddings (1, L, E) of all positions in it."""
        self._cache, self._embeddings = cache, embeddings


def _can_shorten(cache: Any) -> bool:
    """Whether each layer still has all positions: a sliding window drops old ones, a recurrent state mixes them."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return all(
        type(layer) is DynamicLayer
        or (type(layer) is DynamicSlidingWindowLayer and layer.get_seq_length() < layer.sliding_window)
        for layer in cache.layers
    )
