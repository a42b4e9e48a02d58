"""The two collective operations that evaluation needs, with single-process fallbacks."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed as distributed

Value = TypeVar("Value")


def process_place() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) for a single process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def from_first(value: Value) -> Value:
    """The first process's value; all must call this."""
    if process_place()[1] == 1:
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    result: Value = values[0]
    return result


def from_all(value: Value) -> list[Value]:
    """The values of all processes, by rank; all must call this."""
    world = process_place()[1]
    if world == 1:
        return [value]
    values: list[Any] = [None] * world
    distributed.all_gather_object(values, value)
    return values
