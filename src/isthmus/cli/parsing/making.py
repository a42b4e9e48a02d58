"""What a class that a config names raises as it is made reaches the user, whatever the type that it was given for.

jsonargparse makes a Union's classes by trial: an exception is one more type that didn't fit, and only that of the first
type stays in the chain of causes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from isthmus.cli.errors import ours

_PARSING: ContextVar[bool] = ContextVar("whether a parser makes classes now, and would try another type", default=False)


class _NotMadeError(BaseException):  # no Exception: jsonargparse catches those, and tries the next type
    """Carries the error past jsonargparse's trials.

    Args:
        worded: what the user is told.
    """

    def __init__(self, worded: ValueError) -> None:
        super().__init__(str(worded))
        self.worded = worded


def make(class_type: type, *args: Any, **kwargs: Any) -> Any:
    """An instantiator in jsonargparse's sense; factories that a config describes call it, too, when they are called.

    Raises:
        ValueError: as this package words it, or with the class's name before what another raised.
    """
    try:
        return class_type(*args, **kwargs)
    except Exception as reason:  # any: the class may be a user's, or of any library
        worded = ours(reason)
        if worded is None:
            worded = ValueError(f"{class_type.__name__} couldn't be made: {type(reason).__name__}: {reason}")
            worded.__cause__ = reason
    if _PARSING.get():
        raise _NotMadeError(worded)
    raise worded


@contextmanager
def first_failure_counts() -> Iterator[None]:
    """Within this block what :func:`make` raises ends all trials of types. Blocks may be nested; the outer one counts.

    Raises:
        ValueError: what :func:`make` says.
    """
    if _PARSING.get():
        yield
        return
    token = _PARSING.set(True)
    try:
        yield
        return
    except _NotMadeError as failure:
        worded = failure.worded
    finally:
        _PARSING.reset(token)
    raise worded
