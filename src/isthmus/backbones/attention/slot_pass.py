"""Passes over positions of several sequences, each of which attends to its own keys and values.

A row's result depends on its own sequence alone, bit for bit: what is computed for it has a shape that depends on its
own length, whichever other sequences take part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.backbones.attention.lanes import Lane, Shelf, mask_of

GRID = 32
"""A block attends to so many keys, or a multiple of it, those after its own end masked."""

States = tuple[Tensor, Tensor, Tensor]


class SlotPass(Protocol):
    """What packed attention needs of a pass.

    Attributes:
        positions: (N,) the position of each row in its sequence; 0 in an empty row.
    """

    positions: Tensor

    def attend(self, states: States, layer: int, scale: float, window: int | None) -> Tensor:
        """Queries, keys and values (1, H, N, D) of a layer -> (1, N, H, D), zero in empty rows; stores the latter."""


class TokenPass:
    """One further token of each of several sequences.

    Args:
        lanes: of the first rows' sequences; the other rows are empty.
        positions: of their tokens; the lanes have room for them.
        rows: N.
        device: of the pass.
    """

    def __init__(self, lanes: Sequence[Lane], positions: Sequence[int], rows: int, device: torch.device) -> None:
        self.positions = torch.tensor([*positions, *[0] * (rows - len(lanes))], device=device)
        by_shelf: dict[Shelf, list[int]] = {}
        for row, lane in enumerate(lanes):
            by_shelf.setdefault(lane.shelf, []).append(row)
        self._parts = [
            (
                shelf,
                torch.tensor(own, device=device),
                torch.tensor([lanes[row].row for row in own], device=device),
                torch.tensor([positions[row] for row in own], device=device),
            )
            for shelf, own in by_shelf.items()
        ]
        self._masks: dict[tuple[int, int | None, torch.dtype], Tensor] = {}

    def attend(self, states: States, layer: int, scale: float, window: int | None) -> Tensor:
        """See :class:`SlotPass`."""
        query, key, value = states
        heads, groups = key.shape[1], query.shape[1] // key.shape[1]
        found = query.new_zeros(query.shape[2], query.shape[1], value.shape[-1])
        queries, new_keys, new_values = (each[0].transpose(0, 1) for each in states)
        for part, (shelf, own, rows, positions) in enumerate(self._parts):
            keys, values = shelf.layer(layer, key, value)
            keys[rows, :, positions] = new_keys[own]
            values[rows, :, positions] = new_values[own]
            count = len(shelf.lanes)
            # Lanes of the shelf that have no token here are computed too, on zeros, and left out.
            asked = query.new_zeros(count, heads, groups, query.shape[-1])
            asked[rows] = queries[own].unflatten(1, (heads, groups))
            mask = self._mask(part, window, query.dtype)
            out = F.scaled_dot_product_attention(asked, keys[:count], values[:count], mask, scale=scale)
            found[own] = out.flatten(1, 2)[rows]
        return found[None]

    def _mask(self, part: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """(lanes, 1, 1, capacity), the positions that each lane's token sees."""
        if (part, window, dtype) not in self._masks:
            shelf, _, rows, positions = self._parts[part]
            last = torch.zeros(len(shelf.lanes), dtype=torch.long, device=rows.device)
            last[rows] = positions
            places = torch.arange(shelf.capacity, device=rows.device)
            is_seen = places <= last[:, None]
            if window is not None:
                is_seen &= places > last[:, None] - window
            self._masks[part, window, dtype] = mask_of(is_seen[:, None, None], dtype)
        return self._masks[part, window, dtype]


@dataclass(frozen=True)
class Block:
    """Consecutive positions of one sequence.

    Attributes:
        lane: of the sequence, which holds keys and values of all earlier positions, and has room for these.
        start: the first position.
        count: how many.
    """

    lane: Lane
    start: int
    count: int


class BlockPass:
    """Blocks of several sequences, or several of one, in order.

    Args:
        blocks: one after another in the first rows; the other rows are empty.
        rows: N.
        device: of the pass.
    """

    def __init__(self, blocks: Sequence[Block], rows: int, device: torch.device) -> None:
        places = [position for own in blocks for position in range(own.start, own.start + own.count)]
        assert len(places) <= rows
        self.positions = torch.tensor(places + [0] * (rows - len(places)), device=device)
        self._blocks = blocks
        self._masks: dict[tuple[int, int, int, int | None, torch.dtype], Tensor] = {}

    def attend(self, states: States, layer: int, scale: float, window: int | None) -> Tensor:
        """See :class:`SlotPass`."""
        query, key, value = states
        heads, groups = key.shape[1], query.shape[1] // key.shape[1]
        found = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[-1])
        first = 0
        for block in self._blocks:
            rows, end = slice(first, first + block.count), block.start + block.count
            keys, values = (each[block.lane.row] for each in block.lane.shelf.layer(layer, key, value))
            keys[:, block.start : end] = key[0, :, rows]
            values[:, block.start : end] = value[0, :, rows]
            seen = -(-end // GRID) * GRID
            asked = query[0, :, rows].reshape(1, heads, groups * block.count, -1)
            mask = self._mask(block, seen, groups, window, query.dtype)
            out = F.scaled_dot_product_attention(asked, keys[None, :, :seen], values[None, :, :seen], mask, scale=scale)
            found[0, rows] = out.reshape(query.shape[1], block.count, -1).transpose(0, 1)
            first += block.count
        return found

    def _mask(self, block: Block, seen: int, groups: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """(groups * block, seen), the positions that each query sees."""
        kind = block.start, block.count, groups, window, dtype
        if kind not in self._masks:
            device = self.positions.device
            own = torch.arange(block.start, block.start + block.count, device=device)[:, None]
            places = torch.arange(seen, device=device)
            is_seen = places <= own
            if window is not None:
                is_seen &= places > own - window
            self._masks[kind] = mask_of(is_seen.repeat(groups, 1), dtype)
        return self._masks[kind]
