"""Memory that was freed between used blocks is given back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import psutil
from isthmus.serving.guard.allocator import bound_allocator, give_back
bound_allocator()
held = lambda: psutil.Process().memory_info().rss
blocks = [b"x" * 100_000 for _ in range(600)]
del blocks[::2], blocks[:-1]  # the last one keeps the C library from giving back what lies before it
before = held()
give_back()
print(before - held())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps it, and gives it back when asked")
def test_what_lies_between_used_blocks_goes_back() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 30e6, "of 60 MB that were freed"
