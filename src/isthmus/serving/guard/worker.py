"""A worker's side of its pipe: one task after another, in a process of little memory that may be killed at any time."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from isthmus.data.errors import DataError

log = logging.getLogger(__name__)

Facts = dict[str, Any]
"""What goes through the pipe: JSON, so that a worker whose decoder was taken over can't have the server unpickle."""
Ask = Callable[[Facts], Any]
"""Asks the server something in the middle of a task."""
NO_MEMORY, FAILED = 3, 4
"""Exit codes of a worker that ran out of its memory, or whose handler has a fault."""


class Handler(Protocol):
    """What a worker does with a task. It is pickled once, when a worker starts."""

    def __call__(self, task: Facts, ask: Ask) -> Facts:
        """The result of a task.

        Raises:
            DataError: what the client sent is wrong.
            MemoryError: the worker has too little memory for it.
        """
        ...


def work(pipe: Connection, handler: Handler, memory: int, disk: int) -> None:
    """Works until the server closes the pipe.

    Args:
        pipe: to the server.
        handler: does the tasks.
        memory: bytes that the process may allocate beyond those that it has at its start.
        disk: bytes that a file may have that it writes.
    """
    _confine(memory, disk)
    while True:
        try:
            task = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        # The server kills what takes too long. If the server is gone, the kernel does so a little later.
        signal.alarm(int(task["seconds"]) + 5)
        try:
            answer = handler(task, partial(_asked, pipe))
        except DataError as error:
            answer = {"refused": error.message}
        except MemoryError:
            os._exit(NO_MEMORY)
        except Exception as error:  # of a library, whose words and traceback may hold the file's and its path
            log.error("a worker failed: %s", type(error).__name__)
            os._exit(FAILED)
        signal.alarm(0)
        pipe.send_bytes(json.dumps(answer).encode())


def _asked(pipe: Connection, question: Facts) -> Any:
    pipe.send_bytes(json.dumps({"ask": question}).encode())
    return json.loads(pipe.recv_bytes())


def _confine(memory: int, disk: int) -> None:
    """Sets limits that the process can't raise again. What libraries have mapped at the start doesn't count."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    if sys.platform == "linux":  # others don't say what a process has mapped, and count other things
        pages = [int(count) for count in Path("/proc/self/statm").read_text(encoding="ascii").split()]
        page = os.sysconf("SC_PAGE_SIZE")
        mapped, written = pages[0] * page, pages[5] * page
        # Address space has more room: allocators reserve some of it for each thread, and use little of that.
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 4 * memory, mapped + 4 * memory))
        resource.setrlimit(resource.RLIMIT_DATA, (written + memory, written + memory))
