"""What a server's process holds: memory, descriptors, threads, processes and files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

TASKS = 40
"""Tries until a server at rest holds what it held; ends of connections and processes are seen a moment later."""


@dataclass(frozen=True)
class Held:
    """By the server and its processes.

    Attributes:
        memory: MB of the server itself.
        workers_memory: MB of all its processes that are its own alone.
        descriptors: of the server.
        processes: below it.
        files: in its temporary folder, but for those that were uploaded for a page.
        uploads: for a page, which are kept for a while until a question names them.
    """

    memory: float
    workers_memory: float
    descriptors: int
    threads: int
    processes: int
    files: int
    uploads: int


class Watched:
    """A server's process.

    Args:
        pid: of the server.
        temporary: the folder in which it makes files.
    """

    def __init__(self, pid: int, temporary: Path) -> None:
        self.process, self.temporary = psutil.Process(pid), temporary

    def held(self) -> Held:
        """What it holds now."""
        below = self.process.children(recursive=True)
        own = [_unique(each) for each in below]
        files = [path for path in self.temporary.rglob("*") if path.is_file()]
        of = self.process
        uploads = [path for path in files if "uploads" in path.relative_to(self.temporary).parts]
        counts = (of.num_fds(), of.num_threads(), len(below), len(files) - len(uploads), len(uploads))
        return Held(of.memory_info().rss / 1e6, sum(own) / 1e6, *counts)

    def at_rest(self, is_fine: Callable[[Held], bool]) -> Held:
        """What it holds as soon as that is fine, or a while later."""
        for _ in range(TASKS):
            if is_fine(found := self.held()):
                return found
            time.sleep(0.25)
        return found


def _unique(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().uss)
    except psutil.Error:  # it has just ended
        return 0.0
