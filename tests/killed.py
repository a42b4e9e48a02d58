"""A process that is killed at a chosen call, as by ``kill -9`` or a power cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def killed_at(call: int, name: str, work: Callable[[], object]) -> bool:
    """Does the work in a forked process that is killed at its ``call``-th call of ``os.<name>``, counted from 0.

    Returns:
        Whether it came that far.
    """
    child = os.fork()
    if child == 0:
        left = [call]
        real = getattr(os, name)

        def counted(*args: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*args)

        setattr(os, name, counted)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
