"""What is wrong with a piece of data: a ValueError that also says its kind, so that skipped samples can be counted."""

from __future__ import annotations

from enum import StrEnum


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
    """One fault of one sample, its message naming the file or field, what was found, what was expected and the mend."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(fault, message)
        self.fault = fault
        self.message = message

    def __str__(self) -> str:
        return self.message
