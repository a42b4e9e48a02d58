"""The two exchanges between processes that the evaluation needs, and which one process does by itself."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed as distributed

Value = TypeVar("Value")


def process_place() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) where there is only one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def from_first(value: Value) -> Value:
    """What the first process holds; all must call it."""
    if process_place()[1] == 1:
        return value
    held: list[Any] = [value]
    distributed.broadcast_object_list(held, src=0)
    result: Value = held[0]
    return result


def from_all(value: Value) -> list[Value]:
    """What each process holds, by rank; all must call it."""
    world = process_place()[1]
    if world == 1:
        return [value]
    held: list[Any] = [None] * world
    distributed.all_gather_object(held, value)
    return held
