"""Remarks on files and records that a reader could only use after a correction; they are counted and logged."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path

_log = logging.getLogger(__name__)


class Remark(StrEnum):
    """The kinds of remark, by which they are counted."""

    LOUD_AUDIO = "loud audio"
    OPPOSITE_CHANNELS = "opposite channels"
    BROKEN_FRAMES = "broken frames"
    ASSUMED_RANGE = "assumed range"
    BROKEN_POINTS = "broken points"
    MARK = "mark without a medium"
    TOOLS = "tools left out"


_counts: Counter[Remark] = Counter()
_collected: ContextVar[list[tuple[Remark, str]] | None] = ContextVar("collected remarks", default=None)


def remark(kind: Remark, path: Path | str, said: str) -> None:
    """Collects a remark on a file if :func:`remarks` is active, otherwise counts and logs it.

    A process logs the first, the tenth, the hundredth, ... of each kind, since a set may hold a million such files.
    """
    listener = _collected.get()
    if listener is not None:
        listener.append((kind, f"{path}: {said}"))
        return
    _counts[kind] += 1
    count = _counts[kind]
    if str(count).strip("0") == "1":
        _log.warning("%s: %s (%s: %d so far)", path, said, kind, count)


@contextmanager
def remarks() -> Iterator[list[tuple[Remark, str]]]:
    """Collects the remarks of a block, as (kind, message), instead of logging them."""
    found: list[tuple[Remark, str]] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)
