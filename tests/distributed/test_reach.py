"""A part that a gradient has reached in one process has learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as processes
from forked import CONTEXT, forking

from isthmus.training.reach import Reach

pytestmark = pytest.mark.slow


def ask(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    reach = Reach(["first", "second", "third"])
    reach.restore(["first", "second"][rank : rank + 1])
    torch.save(reach.unreached(torch.device("cpu")), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_parts_are_reached_by_any_rank(tmp_path: Path) -> None:
    with forking():
        processes.start_processes(ask, (str(tmp_path),), nprocs=2, start_method=CONTEXT.get_start_method())
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)] == [["third"], ["third"]]
