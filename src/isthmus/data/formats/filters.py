"""Which records of a file are read: those of some splits, modalities or labels."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isthmus.data.errors import DataError, data_faults
from isthmus.data.formats.base import IndexedRecords
from isthmus.data.formats.fields import mapping

SHOWN = 8
"""So many of the values that there are, are told where none is the one that was asked for."""


def kept_records(
    records: IndexedRecords,
    chosen: Mapping[str, Sequence[str] | None],
    read: Mapping[str, Callable[[Any, str], str]] | None = None,
) -> Sequence[int]:
    """The numbers of the records whose fields hold one of the chosen values, in order.

    A record that can't be read is kept: its fault is told when its turn comes, and counted there.

    Args:
        records: the file's.
        chosen: values by field; a field with None or nothing is not looked at.
        read: how a field is read of a record where it isn't taken as it stands.

    Raises:
        ValueError: none is left.
    """
    wanted = {field: set(map(str, values)) for field, values in chosen.items() if values}
    if not wanted:
        return range(len(records))
    kept = array("q")
    others: dict[str, dict[str, None]] = {field: {} for field in wanted}
    for index in range(len(records)):
        try:
            with data_faults(str(records.path)):
                raw, where = records.raw(index)
                record = mapping(raw, where)
                found = {
                    field: read[field](record, where) if read and field in read else _told(record.get(field))
                    for field in wanted
                }
        except DataError:
            kept.append(index)
            continue
        wrong = [field for field, values in wanted.items() if found[field] not in values]
        if not wrong:
            kept.append(index)
        elif len(others[wrong[0]]) < SHOWN:
            others[wrong[0]][found[wrong[0]]] = None
    if not kept:
        asked = " and ".join(f"'{field}' is {' or '.join(map(str, chosen[field] or ()))}" for field in wanted)
        field = next(field for field, values in others.items() if values)
        there = [value for value in others[field] if value]
        has = f"the records have {', '.join(there)}" if there else f"none has the field '{field}'"
        fix = "ask for a value that there is" if there else f"add the field '{field}'"
        raise ValueError(
            f"{records.path}: found no record of which {asked} ({has}); expected at least one. Fix: {fix}, or leave "
            "the filter out."
        )
    return kept


def _told(value: Any) -> str:
    return "" if value is None else str(value)
