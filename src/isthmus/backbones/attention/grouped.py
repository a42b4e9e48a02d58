"""Passes through an LLM over padded rows grouped by length, whose untrained prefixes run without autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.backbones.attention.length_groups import LengthGroup

Transform = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""Embeddings (B, L, E), mask (B, L), positions (B, L) and a cache or None -> final states (B, L, E)."""


def grouped_states(
    transform: Transform,
    new_cache: Callable[[], Any],
    embeddings: Tensor,
    mask: Tensor,
    groups: Sequence[LengthGroup],
    short: int,
    counts_slots: bool,
) -> Tensor:
    """Final states (B, T, E), arbitrary after a row's end.

    Args:
        transform: the LLM without its head.
        new_cache: makes an empty cache of keys and values.
        embeddings: (B, T, E), right-padded.
        mask: (B, T).
        groups: which rows run together.
        short: prefixes of fewer positions run with the rest: a separate pass would cost more than it saves.
        counts_slots: whether the LLM's attention counts slots of the cache instead of positions, so that all rows of
            a group must have prefixes of the same length.
    """
    total = embeddings.shape[1]

    def states(embeddings: Tensor, mask: Tensor, group: LengthGroup) -> Tensor:
        firsts = [group.first] * len(group.firsts) if counts_slots else group.firsts
        if max(firsts) * len(firsts) < short:
            positions = torch.arange(embeddings.shape[1], device=mask.device).expand_as(mask)
            return transform(embeddings, mask, positions, None)
        return _resumed(transform, new_cache(), embeddings, mask, group.lengths, firsts)

    if len(groups) == 1 and groups[0].length == total:
        return states(embeddings, mask, groups[0])
    parts = []
    for group in groups:
        rows = torch.tensor(group.rows, device=mask.device)
        found = states(embeddings[rows, : group.length], mask[rows, : group.length], group)
        parts.append(F.pad(found, (0, 0, 0, total - group.length)))
    order = torch.tensor([row for group in groups for row in group.rows], device=mask.device)
    return torch.cat(parts)[order.argsort()]


def _resumed(
    transform: Transform, cache: Any, embeddings: Tensor, mask: Tensor, lengths: Sequence[int], firsts: Sequence[int]
) -> Tensor:
    """Final states (B, T, E) of a group in two passes.

    Each row's positions before its first trainable input run without autograd. The remaining positions, shifted so
    that all rows start at the same column, continue from their keys and values.
    """
    length, prefix = embeddings.shape[1], max(firsts)
    positions = torch.arange(length, device=mask.device).expand_as(mask)
    tail = max(own - first for own, first in zip(lengths, firsts, strict=True))
    starts = torch.tensor(firsts, device=mask.device)[:, None]
    columns = positions[:, :prefix]
    with torch.no_grad():
        # A row without a prefix keeps one valid position here: an empty softmax would give NaN.
        valid = mask[:, :prefix] & (columns < starts.clamp(min=1))
        before = transform(embeddings[:, :prefix], valid, columns, cache)
    if tail == 0:
        return F.pad(before, (0, 0, 0, length - prefix))
    places = starts + torch.arange(tail, device=mask.device)
    follows = places < mask.sum(1, keepdim=True)
    places = places.clamp(max=length - 1)
    slots = torch.cat([mask[:, :prefix] & (columns < starts), follows], dim=1)
    after = transform(_pick(embeddings, places), slots, places, cache)
    sources = torch.where(positions < starts, positions, prefix + positions - starts).clamp(max=prefix + tail - 1)
    return _pick(torch.cat([before, after], dim=1), sources)


def _pick(states: Tensor, places: Tensor) -> Tensor:
    """(B, T, E) at places (B, L) -> (B, L, E)."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
