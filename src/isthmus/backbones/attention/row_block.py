"""A block of rows of a packed pass: moves queries, keys and values from packed positions to padded rows, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


class RowBlock:
    """Positions ``starts[r]`` to ``ends[r]`` of R rows, N positions in all.

    Args:
        starts: first position of each row in this pass.
        ends: one past the last position of each row.
        device: of the pass.
        before: the same rows' block of the earlier pass, made with ``keeps``.
        keeps: whether the next pass needs this block's keys and values.

    Attributes:
        rows: (N,), the row of each position.
        positions: (N,), its position in this row.
        count: N.
        queries: the largest number of queries in a row.
        slots: the largest number of keys in a row, including those of ``before``.
    """

    def __init__(
        self,
        starts: Sequence[int],
        ends: Sequence[int],
        device: torch.device,
        before: RowBlock | None = None,
        keeps: bool = False,
    ) -> None:
        counts = [end - start for start, end in zip(starts, ends, strict=True)]
        self.before, self.keeps = before, keeps
        self.kept: dict[tuple[int, int], Tensor] = {}
        self.size, self.count, self.queries, self.slots = len(counts), sum(counts), max(counts), max(ends)
        self.is_full = self.count == self.size * self.queries
        self.is_causal = not any(starts)
        firsts, lengths = torch.tensor(starts), torch.tensor(counts)
        rows = torch.arange(self.size).repeat_interleave(lengths)
        offsets = torch.arange(self.count) - (lengths.cumsum(0) - lengths)[rows]
        indices = torch.stack([rows, offsets, firsts[rows] + offsets]).to(device, non_blocking=True)
        self.rows, self._offsets, self.positions = indices
        self._firsts = firsts.to(device, non_blocking=True)
        self._masks: dict[int | None, Tensor] = {}

    def mask(self, window: int | None) -> Tensor | None:
        """(R, 1, queries, slots), True where a query attends to a slot; None if attention is plainly causal.

        A position attends to itself and all before it. Slots without a key of the row come after all its positions, so
        that they are masked too.
        """
        if self.is_causal and window is None:
            return None
        if window not in self._masks:
            slots = torch.arange(self.slots, device=self.rows.device)
            places = (self._firsts[:, None] + torch.arange(self.queries, device=self.rows.device))[..., None]
            attends = slots <= places
            if window is not None:
                attends &= slots > places - window
            self._masks[window] = attends[:, None]
        return self._masks[window]

    def query_rows(self, query: Tensor) -> Tensor:
        """(1, H, N, D) -> (R, H, queries, D), with arbitrary values after a row's last position."""
        flat = _flat(query)
        if not self.is_full:
            flat = _PadRows.apply(flat, None, *self._query_places)  # type: ignore[no-untyped-call]
        return _rows(flat, self.size, query.shape[1])

    def key_rows(self, layer: int, which: int, new: Tensor) -> Tensor:
        """(1, H, N, D) -> (R, H, slots, D), after those of ``before``; arbitrary values after a row's last position.

        Args:
            layer: index of the LLM's layer.
            which: 0 for keys, 1 for values.
            new: the keys or values of this pass.
        """
        flat = _flat(new)
        if self.keeps:
            self.kept[layer, which] = flat
        kept = None if self.before is None else self.before.kept[layer, which]
        if kept is not None or not self.is_full:
            flat = _PadRows.apply(flat, kept, *self._key_places)  # type: ignore[no-untyped-call]
        return _rows(flat, self.size, new.shape[1])

    def packed(self, rows: Tensor) -> Tensor:
        """(R, queries, ...) -> (1, N, ...), the inverse of :meth:`query_rows`."""
        flat = rows.reshape(self.size * self.queries, *rows.shape[2:])
        return (flat if self.is_full else flat.index_select(0, self._query_places[1]))[None]

    @cached_property
    def _query_places(self) -> tuple[Tensor, Tensor]:
        own = self.rows * self.queries + self._offsets
        return _sources(own, self.size * self.queries), own

    @cached_property
    def _key_places(self) -> tuple[Tensor, Tensor]:
        own = every = self.rows * self.slots + self.positions
        if self.before is not None:
            every = torch.cat([self.before.rows * self.slots + self.before.positions, own])
        return _sources(every, self.size * self.slots), own


class _PadRows(torch.autograd.Function):
    """Packed positions -> padded rows; forward and backward are each one gather.

    Padding holds copies of some other position. Nothing attends to it or uses its output, so its gradient is zero and
    needn't be accumulated.
    """

    @staticmethod
    def forward(ctx: Any, new: Tensor, kept: Tensor | None, sources: Tensor, places: Tensor) -> Tensor:
        """(N, E), and (K, E) of the earlier pass -> (R * L, E)."""
        ctx.save_for_backward(places)
        return (new if kept is None else torch.cat([kept, new])).index_select(0, sources)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """(R * L, E) -> (N, E)."""
        (places,) = ctx.saved_tensors
        return gradients[0].index_select(0, places), None, None, None


def _sources(places: Tensor, count: int) -> Tensor:
    """(count,): the inverse of ``places``, 0 for indices that aren't among them."""
    return places.new_zeros(count).index_copy(0, places, torch.arange(len(places), device=places.device))


def _flat(packed: Tensor) -> Tensor:
    """(1, H, N, D) -> (N, H * D)."""
    return packed.squeeze(0).transpose(0, 1).flatten(1)


def _rows(flat: Tensor, rows: int, heads: int) -> Tensor:
    """(R * L, H * D) -> (R, H, L, D)."""
    return flat.view(rows, -1, heads, flat.shape[1] // heads).transpose(1, 2)
