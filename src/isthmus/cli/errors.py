"""Errors for users: one line on stderr and exit code 2. Tracebacks are for those who ask, and for our own bugs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def ours(error: BaseException) -> ValueError | None:
    """The ``ValueError`` that a line of this package raised, and so worded for users: the error itself, or its cause.

    What a constructor raises comes wrapped: jsonargparse tells of every type that it tried.
    """
    found: BaseException | None = error
    while found is not None:
        frames = traceback.extract_tb(found.__traceback__)
        if isinstance(found, ValueError) and frames and Path(frames[-1].filename).resolve().is_relative_to(PACKAGE):
            return found
        found = found.__cause__
    return None


def of_a_class(error: BaseException) -> ValueError | None:
    """What a class that a config names raised as it was made, without jsonargparse's list of types that it tried."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    made = [frame.f_locals for frame, _ in traceback.walk_tb(root.__traceback__) if "class_type" in frame.f_locals]
    if root is error or not made:
        return None
    name = made[-1]["class_type"].__name__
    return ValueError(f"{name} couldn't be made: {type(root).__name__}: {root}")


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns our own ``ValueError``, and what a configured class raised, into a message and exit code 2.

    ``ISTHMUS_DEBUG=1`` leaves the traceback.

    Raises:
        SystemExit: with code 2, or 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except ValueError as error:
        worded = ours(error) or of_a_class(error)
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
