"""What the C library keeps of memory that was freed, bounded: requests differ in size, and come in many threads."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

TRIM, MMAP, ARENAS = -1, -3, -8
"""Parameters of glibc's mallopt, as malloc.h numbers them."""
LARGE = 1 << 20
"""Bytes of a request and its answer from which on :func:`give_back` is worth its time, some milliseconds."""


def bound_allocator() -> None:
    """Gives large blocks back at once, and lets threads share two pools of small ones; before threads start.

    By default each thread has a pool of its own that grows to the largest request it met, and the size from which
    blocks are given back grows up to 32 MB. Other C libraries than glibc are left as they are.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(ARENAS, 2)
        mallopt(MMAP, 4 << 20)
        mallopt(TRIM, 32 << 20)


def give_back() -> None:
    """Gives freed memory between used blocks back to the system, which the C library keeps otherwise.

    Bodies are read as many strings of less than the size from which blocks are given back at once.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:
    """One of glibc, if it is there."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
