"""Keys and values of answers that are decoded together, in tensors that many share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHORTEST = 128
"""Positions of the shortest shelf; each further one has twice as many."""


@dataclass(eq=False)
class Lane:
    """The place of one answer's keys and values.

    Attributes:
        shelf: that holds them now.
        row: in this shelf's tensors.
    """

    shelf: Shelf
    row: int


class Shelf:
    """Keys and values of sequences of at most ``capacity`` positions, by layer (rows, H, capacity, D).

    The first rows hold the lanes, without gaps, so that attention takes them as they lie. Positions that a lane doesn't
    have yet hold zeros: they are masked, but a weight of 0 times what an earlier lane left there may be NaN.

    Args:
        capacity: positions of a row.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.lanes: list[Lane] = []
        self.states: dict[int, tuple[Tensor, Tensor]] = {}

    def layer(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, of the heads, width and type of these (1, H, N, D), with rows for all lanes."""
        held = self.states.get(layer)
        if held is None or len(held[0]) < len(self.lanes):
            rows = 1 << (len(self.lanes) - 1).bit_length()
            fresh = (
                key.new_zeros(rows, key.shape[1], self.capacity, key.shape[-1]),
                value.new_zeros(rows, value.shape[1], self.capacity, value.shape[-1]),
            )
            if held is not None:
                for old, new in zip(held, fresh, strict=True):
                    new[: len(old)] = old
            held = self.states[layer] = fresh
        return held

    def add(self) -> Lane:
        """A new lane, of zeros."""
        lane = Lane(self, len(self.lanes))
        for held in self.states.values():
            for states in held:
                states[lane.row : lane.row + 1].zero_()
        self.lanes.append(lane)
        return lane

    def remove(self, lane: Lane) -> None:
        """Takes a lane out; the last one takes its place."""
        last = self.lanes.pop()
        if last is not lane:
            for held in self.states.values():
                for states in held:
                    if len(states) > last.row:
                        states[lane.row] = states[last.row]
            last.row = lane.row
            self.lanes[last.row] = last
        if not self.lanes:
            self.states = {}


class Lanes:
    """All lanes of one LLM. A lane lies on a shelf that depends on its own length alone."""

    def __init__(self) -> None:
        self._shelves: dict[int, Shelf] = {}

    def open(self, length: int) -> Lane:
        """A lane for so many positions."""
        return self._shelf(length).add()

    def close(self, lane: Lane) -> None:
        """Gives a lane's memory to others."""
        lane.shelf.remove(lane)

    def lengthen(self, lane: Lane, length: int) -> None:
        """Makes room for so many positions, on a longer shelf if need be."""
        old = lane.shelf
        if length <= old.capacity:
            return
        new = self._shelf(length)
        moved = new.add()
        for layer, (keys, values) in old.states.items():
            if len(keys) > lane.row:
                own = slice(lane.row, lane.row + 1)
                for source, target in zip((keys, values), new.layer(layer, keys[own], values[own]), strict=True):
                    target[moved.row, :, : old.capacity] = source[lane.row]
        old.remove(lane)
        lane.shelf, lane.row = new, moved.row
        new.lanes[moved.row] = lane

    def _shelf(self, length: int) -> Shelf:
        capacity = max(SHORTEST, 1 << (length - 1).bit_length())
        return self._shelves.setdefault(capacity, Shelf(capacity))


def mask_of(is_seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that attention adds to its scores: 0 where a key is seen."""
    return torch.zeros(is_seen.shape, dtype=dtype, device=is_seen.device).masked_fill_(~is_seen, -torch.inf)
