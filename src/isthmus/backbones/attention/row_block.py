"""A block of rows of a packed pass: moves queries, keys and values from packed positions to padded rows, and back.

Positions at which rows begin alike are packed once: the first of these rows owns them, and the others get copies of
their keys and values. A position's state depends on what stands before it alone, so that it is the same in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

Integers = np.ndarray[Any, np.dtype[np.int64]]


class RowBlock:
    """Positions ``starts[r]`` to ``ends[r]`` of R rows, N distinct ones in all.

    Args:
        starts: first position of each row in this pass.
        ends: one past the last position of each row.
        device: of the pass.
        before: the same rows' block of the earlier pass, made with ``keeps``.
        keeps: whether the next pass needs this block's keys and values.
        common: how many first positions each row has in common with the row before it; none if None.

    Attributes:
        rows: (N,), the row of each packed position.
        positions: (N,), its position in this row.
        copies: (3, c), of each further place where a packed position stands: row, position, and which of the N it is.
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
        common: Sequence[int] | None = None,
    ) -> None:
        self.before, self.keeps = before, keeps
        self.kept: dict[tuple[int, int], Tensor] = {}
        begin, end = np.asarray(starts), np.asarray(ends)
        owned = np.minimum(np.maximum(begin, 0 if common is None else common), end)
        self.is_causal = not begin.any()
        # Where attention is plainly causal, kernels without a mask are faster, though copies are queries then, too.
        firsts = begin if self.is_causal else owned
        rows, positions = _spans(owned, end)
        self.size, self.count, self.slots = len(end), len(rows), int(end.max())
        self.queries = int((end - firsts).max())
        self.is_full = self.count == self.size * self.queries
        # Which of the earlier pass's packed positions, followed by this one's, stands in each row's slot.
        earlier = 0 if before is None else before.count
        self.slot_sources = np.zeros((self.size, self.slots), dtype=np.int64)
        if before is not None:
            self.slot_sources[:, : before.slots] = before.slot_sources
        self.slot_sources[rows, positions] = earlier + np.arange(self.count)
        for row in np.flatnonzero(owned > begin):  # in order: what a row shares may be shared by the one before it
            shared = slice(begin[row], owned[row])
            self.slot_sources[row, shared] = self.slot_sources[row - 1, shared]
        others, places = _spans(begin, owned)
        self.rows, self.positions, self._offsets = _on(device, np.stack([rows, positions, positions - firsts[rows]]))
        self.copies = _on(device, np.stack([others, places, self.slot_sources[others, places] - earlier]))
        self._firsts = _on(device, firsts)
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
        if self.is_causal:  # queries stand where keys do
            return self._sources, own
        among = torch.arange(self.count, device=own.device)
        return own.new_zeros(self.size * self.queries).index_copy(0, own, among), own

    @cached_property
    def _key_places(self) -> tuple[Tensor, ...]:
        own = self.rows * self.slots + self.positions
        if not self.copies.shape[1]:
            return self._sources, own
        rows, positions, copied = self.copies
        return self._sources, own, rows * self.slots + positions, copied

    @cached_property
    def _sources(self) -> Tensor:
        return _on(self.rows.device, self.slot_sources.ravel())


class _PadRows(torch.autograd.Function):
    """Packed positions -> padded rows; forward and backward are each one gather, and one more for copies.

    Padding holds copies of some other position. Nothing attends to it or uses its output, so its gradient is zero and
    needn't be accumulated.
    """

    @staticmethod
    def forward(ctx: Any, new: Tensor, kept: Tensor | None, sources: Tensor, *places: Tensor) -> Tensor:
        """(N, E), and (K, E) of the earlier pass -> (R * L, E).

        ``places`` are where the N stand, and for copies with gradients of their own where these stand and which of the
        N they are.
        """
        ctx.save_for_backward(*places)
        return (new if kept is None else torch.cat([kept, new])).index_select(0, sources)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """(R * L, E) -> (N, E)."""
        places, *copies = ctx.saved_tensors
        found = gradients[0].index_select(0, places)
        if copies:
            stand, copied = copies
            found.index_add_(0, copied, gradients[0].index_select(0, stand))
        return found, *[None] * (3 + len(copies))


def _spans(starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Positions ``starts[r]`` to ``ends[r]`` of each row, one after another: the row of each, and where it is there."""
    counts = ends - starts
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) + (starts - counts.cumsum() + counts)[rows]


def _on(device: torch.device, indices: Integers) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(indices)).to(device, non_blocking=True)


def _flat(packed: Tensor) -> Tensor:
    """(1, H, N, D) -> (N, H * D)."""
    return packed.squeeze(0).transpose(0, 1).flatten(1)


def _rows(flat: Tensor, rows: int, heads: int) -> Tensor:
    """(R * L, H * D) -> (R, H, L, D)."""
    return flat.view(rows, -1, heads, flat.shape[1] // heads).transpose(1, 2)
