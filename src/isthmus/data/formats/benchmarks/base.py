"""What public benchmarks share: records held in memory, a question with media, and what decides over their figures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.conversations.records import CsvRecords, Records
from isthmus.data.errors import DataError, fault
from isthmus.data.formats.base import IndexedRecords, RecordSource
from isthmus.data.formats.fields import Item
from isthmus.data.packed import unpacked
from isthmus.data.sampling.seeds import derive_seed
from isthmus.paths import user_path

Hook = Callable[[dict[str, Any]], Any]
"""Makes something smaller of each object of a JSON file while it is read."""


class HeldRecords:
    """Records in memory, each with its place; one that couldn't be read is its fault, told when its turn comes.

    Args:
        path: the file that they were read from.
        records: (place in the file, the record or its fault), in order.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, path: Path, records: Iterable[tuple[str, Any]]) -> None:
        self.path = path
        self.records = list(records)
        if not self.records:
            raise ValueError(f"{path}: found no records; expected at least one. Fix: give the benchmark's whole file.")

    def __len__(self) -> int:
        return len(self.records)

    def raw(self, index: int) -> tuple[Any, str]:
        """A record and its place.

        Raises:
            DataError: it couldn't be read when the file was opened.
        """
        record = self.records[index][1]
        if isinstance(record, DataError):
            raise record
        return record, self.where(index)

    def where(self, index: int) -> str:
        """The file, and the place in it."""
        return f"{self.path}: {self.records[index][0]}"


class Benchmark(RecordSource):
    """A public benchmark in its official layout.

    Args:
        records: see :class:`~isthmus.data.formats.base.RecordSource`.
        root: the same.
        choice: what decides over figures beside the files: instructions, seeds, numbers of samples.
        files: beside the records' own.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.
        kept: the same.
    """

    def __init__(
        self,
        records: IndexedRecords,
        root: str | Path | None,
        choice: Mapping[str, Any],
        files: Sequence[Path] = (),
        target_files: bool = True,
        kept: Sequence[int] | None = None,
    ) -> None:
        super().__init__(records, root, target_files, kept)
        self._choice = dict(choice)
        self._further = list(files)

    @property
    def choice(self) -> Mapping[str, Any]:
        return self._choice

    @property
    def files(self) -> Sequence[Path]:
        return [self.records.path, *self._further]


def read_json(path: str | Path, hook: Hook | None = None) -> tuple[Path, Any]:
    """The path, and what the JSON file holds.

    Raises:
        ValueError: there is no such file, or it isn't JSON.
    """
    place = user_path(path)
    if not place.is_file():
        raise ValueError(f"{place}: found no file; expected a benchmark's JSON. Fix: correct the path.")
    try:
        return place, json.loads(unpacked(place).read_bytes(), object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: found no JSON ({error}); expected a whole file. Fix: copy it anew.") from error


def read_lists(path: str | Path, names: Sequence[str], hook: Hook | None = None) -> tuple[Path, Mapping[str, Any]]:
    """The path, and the object of a JSON file, some of whose members are lists.

    Raises:
        ValueError: as :func:`read_json`, or a member is missing or no list.
    """
    place, found = read_json(path, hook)
    check_lists(place, found, names)
    return place, found


def check_lists(place: Path, found: Any, names: Sequence[str]) -> None:
    """Sees that what a JSON file holds is an object with these lists.

    Raises:
        ValueError: a member is missing or no list.
    """
    absent = [name for name in names if not isinstance(found, dict) or not isinstance(found.get(name), list)]
    if absent:
        has = f"an object of {', '.join(found)[:80]}" if isinstance(found, dict) else type(found).__name__
        raise ValueError(
            f"{place}: found {has}; expected an object with the lists {', '.join(names)}. Fix: give the official file."
        )


def read_rows(table: CsvRecords, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | DataError]]:
    """The rows of a table as :class:`HeldRecords` takes them.

    Raises:
        ValueError: a column isn't there.
    """
    if absent := [name for name in needed if name not in table.columns]:
        raise ValueError(
            f"{table.path}: found the columns {', '.join(table.columns)[:200]}; expected {' and '.join(absent)} too. "
            "Fix: give the official table."
        )
    yield from read_each(table)


def read_each(records: Records) -> Iterator[tuple[str, Any]]:
    """All records as :class:`HeldRecords` takes them, those that can't be read as their faults."""
    for index in range(len(records)):
        line = f"line {records.where(index).rpartition(':')[2]}"
        try:
            yield line, records.raw(index)[0]
        except DataError as error:
            yield line, error


def check_pattern(place: Path, file: str, known: Mapping[str, Any]) -> None:
    """Sees that a pattern of files' names can be filled.

    Args:
        place: the file whose records are to fill it.
        file: with names in braces.
        known: these names, each with a value of its kind.

    Raises:
        ValueError: it has other names, or a value can't be written so.
    """
    try:
        file.format(**known)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{place}: found {', '.join(known)[:200]}; expected those in the braces of 'file', {file!r} ({error}). "
            "Fix: put names there that there are."
        ) from error


def filled(template: str, name: str, **values: str) -> str:
    """A template whose placeholders in braces are replaced, each by its value as it is; other braces stay.

    Raises:
        ValueError: a placeholder isn't in it.
    """
    for key in values:
        if f"{{{key}}}" not in template:
            raise ValueError(f"{name}: found {template!r}; expected {{{key}}} in it. Fix: put it where it belongs.")
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


def asked(content: Sequence[Item], answer: str | None) -> list[dict[str, Any]]:
    """A question's items and its reference answer, where there is one, as turns."""
    turns = [{"role": "user", "content": list(content)}]
    if answer is not None:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return turns


def noise_seed(*parts: str | int) -> int:
    """The seed of a generated medium: the same for a sample, whatever else is in its batch."""
    return derive_seed("benchmark", *parts) % 2**31


def whole_number(record: Mapping[str, Any], name: str, where: str) -> int:
    """A field that holds a whole number, or its digits.

    Raises:
        DataError: it is missing or something else.
    """
    value = record.get(name)
    if isinstance(value, bool) or not str(value).strip().lstrip("-").isdigit():
        raise fault(f"{where}: {name}", f"found {str(value)[:40]!r}", "a whole number", "correct the field")
    return int(str(value))
