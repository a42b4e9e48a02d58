"""Errors for users: one line on stderr and exit code 2. Tracebacks are for those who ask, and for our own bugs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from isthmus.worded import is_worded


def ours(error: BaseException) -> ValueError | None:
    """The ``ValueError`` that a line of this package raised, and so worded for users: the error, or a cause of it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ValueError) and is_worded(found):
            return found
        found = found.__cause__
    return None


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns our own ``ValueError`` into a message and exit code 2; see ``parsing.making`` for configured classes.

    ``ISTHMUS_DEBUG=1`` leaves the traceback.

    Raises:
        SystemExit: with code 2, or 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except ValueError as error:
        worded = ours(error)
        if worded is None or os.environ.get("ISTHMUS_DEBUG") == "1":
            raise
        print(f"error: {worded}\n(ISTHMUS_DEBUG=1 shows where)", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Ends without a word where whoever read stdout has left, as ``| head`` does.

    Raises:
        SystemExit: with code 141, as of a program that SIGPIPE ends.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would be written, and fail, once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
