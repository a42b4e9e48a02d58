"""What is wrong with a piece of data: a ValueError that also says its kind, so that skipped samples can be counted."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

LONGEST_REASON = 400
"""Characters of another library's message that are repeated."""

SPENT = {getattr(errno, name) for name in ("EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT") if hasattr(errno, name)}
"""The system's words for what a machine has no more of: open files, memory, room on a disk."""

WORDED = "; expected "
"""Stands in every error of this package: it says by itself what is wrong."""


class Fault(StrEnum):
    """The kinds of fault that a sample can have, the keys under which skipped samples are counted."""

    SCHEMA = "schema"
    PATH = "path"
    LIMIT = "limit"
    CORRUPT = "corrupt"
    TEMPLATE = "template"
    RESERVED_TEXT = "reserved text"
    NO_TARGET = "no target"
    EQUAL_PAIR = "equal pair"
    TOO_LONG = "too long"
    UNSERVED = "unserved modality"
    SHAPE = "shape"
    OTHER = "other"


class DataError(ValueError):
    """One fault of one sample, its message naming the file or field, what was found, what was expected and the fix.

    Halves of surrogate pairs, which names of files and damaged JSON hold, are written as escapes: no log, terminal or
    report could take them.
    """

    def __init__(self, fault: Fault, message: str) -> None:
        message = message.encode("utf-8", "backslashreplace").decode("utf-8")
        super().__init__(fault, message)
        self.fault = fault
        self.message = message

    def __str__(self) -> str:
        return self.message


def fault(where: object, found: str, expected: str, fix: str, kind: Fault = Fault.SCHEMA) -> DataError:
    """What is wrong with a file, a record or a field, in the form of every error of this package."""
    return DataError(kind, f"{where}: {found}; expected {expected}. Fix: {fix}.")


def is_machines(error: object) -> bool:
    """Whether an error tells of the machine, not of the file: the next sample would meet it too.

    Python's own types alone count. FFmpeg's classes have the same codes for a header that declares absurd sizes.
    """
    return type(error) is MemoryError or (type(error) is OSError and error.errno in SPENT)


@contextmanager
def data_faults(where: str) -> Iterator[None]:
    """Turns whatever a block raises into a fault of the data that it reads.

    Decoders, tokenizers and preprocessing of other libraries raise what they like, and none of it says which file it
    was. A :class:`DataError` passes as it is. So does what tells of the machine: see :func:`is_machines`.
    ``KeyboardInterrupt`` and ``SystemExit`` are no ``Exception``.

    Args:
        where: the file, or the record's place, that an error is to name.

    Raises:
        DataError: with the original as its cause and the original's type in its message.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or is_machines(error):
            error.add_note(f"It was raised while {where} was read.")
            raise
        kind = Fault.PATH if isinstance(error, OSError) else Fault.OTHER
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        if type(error) is ValueError and WORDED in reason:
            raise DataError(kind, f"{where}: {reason.removeprefix(where.rpartition(': ')[2] + ': ')}") from error
        raise DataError(
            kind,
            f"{where}: found what raises {type(error).__name__}{f' ({reason})' if reason else ''}; expected data that "
            "can be read. Fix: correct or replace it, or take it out.",
        ) from error
