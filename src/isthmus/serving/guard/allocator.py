"""What the C library keeps of memory that was freed, bounded: requests differ in size, and come in many threads."""

from __future__ import annotations

import ctypes
import sys

TRIM, MMAP, ARENAS = -1, -3, -8
"""Parameters of glibc's mallopt, as malloc.h numbers them."""


def bound_allocator() -> None:
    """Gives large blocks back at once, and lets threads share two pools of small ones; before threads start.

    By default each thread has a pool of its own that grows to the largest request it met, and the size from which
    blocks are given back grows up to 32 MB. Other C libraries than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(ARENAS, 2)
        mallopt(MMAP, 4 << 20)
        mallopt(TRIM, 32 << 20)
