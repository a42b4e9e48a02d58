"""What fails in passing is tried again: object stores that are busy, network disks that are gone for a moment."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from random import SystemRandom
from time import sleep
from typing import TypeVar

from isthmus.data.errors import is_machines

_log = logging.getLogger(__name__)

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try; up to a half is taken off by chance, so that processes don't come back together."""

_NAMES = (
    "EAGAIN EBUSY ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EINTR EIO ENETDOWN ENETRESET ENETUNREACH "
    "ENOBUFS ENOTCONN EREMOTEIO ESHUTDOWN ESTALE ETIMEDOUT"
)
PASSING = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}
"""Numbers of errors of disks and networks that may be gone in a moment."""
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that mean the same."""
LASTING: tuple[type[Exception], ...] = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
LASTING += (ValueError, TypeError, LookupError, NotImplementedError)
"""What a store raises of a request that is wrong in itself."""

Found = TypeVar("Found")


def is_disks(error: BaseException) -> bool:
    """Whether an error, or what it comes from, is one that a network disk has in passing.

    A damaged file also raises such numbers, through a decoder's own classes; those aren't tried again.
    """
    found: BaseException | None = error
    while found is not None:
        if type(found).__module__ == "builtins" and isinstance(found, OSError) and found.errno in PASSING:
            return True
        found = found.__cause__
    return False


def is_stores(error: BaseException) -> bool:
    """Whether an object store may answer the same request in a moment: all that isn't known to be wrong in itself.

    A disk of this machine that is full, or too many open files, is nothing of the store's.
    """
    if is_machines(error):
        return False
    status = next((own for name in ("status", "code") if isinstance(own := getattr(error, name, None), int)), None)
    return status in BUSY if status is not None else is_disks(error) or not isinstance(error, LASTING)


class Retries:
    """Tries again after growing waits. Once that was in vain each request is tried once, until one succeeds.

    Args:
        passing: whether an error may be gone in a moment.
        waits: seconds before each further try.
    """

    def __init__(self, passing: Callable[[BaseException], bool], waits: Sequence[float] = WAITS) -> None:
        self.passing = passing
        self.waits = tuple(waits)
        self.is_down = False

    def run(self, where: str, do: Callable[[], Found]) -> Found:
        """What ``do`` gives; the last error where it never succeeds, and any at once that isn't passing."""
        for wait in () if self.is_down else self.waits:
            try:
                return do()
            except Exception as error:  # stores and decoders raise what they like
                if not self.passing(error):
                    raise
                seconds = wait * SystemRandom().uniform(0.5, 1.0)
                _log.warning("%s: %s: %s; tried again in %.1f s", where, type(error).__name__, error, seconds)
            sleep(seconds)
        self.is_down = True
        found = do()
        self.is_down = False
        return found


DISK = Retries(is_disks)
"""For files on disks, of which some are on a network."""
