"""Processes share work by chunks that don't depend on their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch.distributed as distributed
from torch import multiprocessing

from isthmus.evaluation.metrics.base import Processes

ITEMS = list(range(11))


def squares(chunk: Sequence[int]) -> list[tuple[int, int, int]]:
    return [(item * item, len(chunk), chunk[0]) for item in chunk]


def alone(items: Sequence[int]) -> list[tuple[int, int, int]]:
    return Processes().map(squares, items, 3)


def _together(rank: int, world: int, rendezvous: str) -> None:
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    processes = Processes()
    assert (processes.rank, processes.count) == (rank, world)
    expected = [(item * item, 3 if item < 9 else 2, item - item % 3) for item in ITEMS]
    assert processes.map(squares, ITEMS, 3) == expected
    assert processes.map(squares, ITEMS[:1], 3) == [(0, 1, 0)]
    assert processes.map(squares, [], 3) == []
    distributed.destroy_process_group()


def test_results_are_in_order_and_chunks_are_fixed() -> None:
    assert alone(ITEMS) == [(item * item, 3 if item < 9 else 2, item - item % 3) for item in ITEMS]
    assert alone([]) == []


def test_two_processes_work_on_the_same_chunks(tmp_path: Path) -> None:
    multiprocessing.start_processes(_together, (2, f"file://{tmp_path}/rendezvous"), nprocs=2, start_method="fork")


def test_a_result_for_each_item_is_asserted() -> None:
    with pytest.raises(AssertionError, match="1 results for 3 items"):
        Processes().map(lambda chunk: chunk[:1], ITEMS, 3)
