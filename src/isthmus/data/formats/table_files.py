"""Rows of Parquet and Arrow files, any of them at any time, in bounded memory.

Arrow files are mapped into memory. Of a Parquet file a row group is the least that can be read: small ones are kept in
memory for a while; a large one is unpacked to disk when it is first met, as an Arrow file of small batches.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.data.derived import derived_file
from isthmus.data.errors import DataError, Fault

if TYPE_CHECKING:
    import pyarrow

SMALL = 16 << 20
"""Bytes, in memory, of a row group that isn't unpacked to disk."""

HELD = 32 << 20
"""Bytes of row groups that a process keeps, those used last."""

PARQUET = b"PAR1"
"""How a Parquet file begins."""

OPEN = 64
"""Files that a process keeps open."""

BATCH = 256 << 10
"""Bytes, about, of a batch of an unpacked row group: what is read from the disk for one row."""

PROBED = 256
"""Rows of a batch while a row group is read that may be small."""

_COUNTED = 8192


class TableFiles:
    """Tables of the same columns, one after the other.

    Args:
        files: Parquet or Arrow, in order.

    Attributes:
        names: their columns.
        labels: column -> the names that its numbers stand for, as Hugging Face's ``ClassLabel`` keeps them.
        read: the columns that are read; all at first.
        ends: of each row group, the first row after it.
        window: so many row groups are held in memory twice, and none is unpacked; None: by their size.

    Raises:
        ValueError: pyarrow isn't installed, a file is none of these, or has other columns than the first.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        need_pyarrow(files[0])
        self.path = files[0]
        self.files = list(files)
        self._parquets = [_is_parquet(path) for path in files]
        self.names: list[str] = []
        self._groups: list[tuple[int, int]] = []  # file, and group in it
        self._begins: list[int] = []  # of each file, its first row
        sizes: list[int] = []
        self._forget()
        for number, path in enumerate(self.files):
            schema, own = self._described(number)
            if not self.names:
                self.names, self.plain, self.labels = list(schema.names), _plain(schema), _labels(schema)
            if set(schema.names) != set(self.names):
                raise ValueError(
                    f"{path}: found the columns {', '.join(schema.names)[:200]}; expected those of {self.files[0]}: "
                    f"{', '.join(self.names)[:200]}. Fix: read these files as sets of their own."
                )
            self._begins.append(sum(sizes))
            self._groups += [(number, group) for group in range(len(own))]
            sizes += own
        self.ends = list(accumulate(sizes))
        self.read = self.names
        self.window: int | None = None

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_opened", "_held", "_large")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def where(self, index: int) -> str:
        """The file, and the row in it from 0."""
        index = range(len(self))[index]
        number, _ = self._groups[bisect_right(self.ends, index)]
        return f"{self.files[number]}[{index - self._begins[number]}]"

    def raw(self, index: int) -> tuple[dict[str, Any], str]:
        """A row's columns that are read, as plain values; and its place.

        Raises:
            DataError: the file can't be read any more.
        """
        import pyarrow

        index = range(len(self))[index]
        group = bisect_right(self.ends, index)
        place = index - (self.ends[group - 1] if group else 0)
        number, own = self._groups[group]
        try:
            if self._parquets[number]:
                batch, place = self._of_parquet(number, own, place)
            else:
                batch = self._arrow(number)[own].select(self.read)
            row = batch.slice(place, 1)
            row.validate(full=True)  # offsets of a damaged file lead out of its memory
            found: dict[str, Any] = row.to_pylist()[0]
        except (pyarrow.ArrowException, OSError, IndexError) as error:
            raise DataError(
                Fault.CORRUPT, f"{self.where(index)}: found no readable row ({error}); expected one. Fix: copy it anew."
            ) from error
        return found, self.where(index)

    def column(self, name: str) -> Iterator[Any]:
        """The values of one column, in order."""
        for number, is_parquet in enumerate(self._parquets):
            if is_parquet:
                batches = self._parquet(number).iter_batches(_COUNTED, columns=[name], use_threads=False)
            else:
                batches = self._arrow(number)
            for batch in batches:
                batch.validate(full=True)
                yield from batch.column(batch.schema.names.index(name)).to_pylist()

    def _of_parquet(self, number: int, group: int, place: int) -> tuple[Any, int]:
        """A batch that holds a row of a group, and where in it."""
        import pyarrow

        key = number, group
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key], place
        if key not in self._large:
            batches, size = [], 0
            for batch in self._batches(number, group, PROBED):
                batches.append(batch)
                size += batch.nbytes
                if size > SMALL and self.window is None:
                    self._large.add(key)
                    break
            else:
                return self._hold(key, pyarrow.Table.from_batches(batches)), place
        form = f"row group {group}: {', '.join(self.read)}"
        path = derived_file(self.files[number], form, lambda aside: self._unpack(number, group, aside))
        with pyarrow.OSFile(str(path)) as file:
            reader = pyarrow.ipc.open_file(file)
            rows = int(reader.schema.metadata[b"rows"])
            return reader.get_batch(place // rows), place % rows

    def _hold(self, key: tuple[int, int], table: Any) -> Any:
        self._held[key] = table
        while len(self._held) > 1 and self._is_full():
            self._held.popitem(last=False)
        return table

    def _is_full(self) -> bool:
        # Workers run ahead into the next window while the last batches of this one are made.
        if self.window is not None:
            return len(self._held) > 2 * self.window
        return sum(int(table.nbytes) for table in self._held.values()) > HELD

    def _batches(self, number: int, group: int, rows: int) -> Iterator[Any]:
        yield from self._parquet(number).iter_batches(rows, row_groups=[group], columns=self.read, use_threads=False)

    def _unpack(self, number: int, group: int, target: Path) -> None:
        import pyarrow

        first = next(self._batches(number, group, PROBED))
        rows = max(1, BATCH * len(first) // max(first.nbytes, 1))
        schema = first.schema.with_metadata({"rows": str(rows)})
        with pyarrow.OSFile(str(target), "wb") as file, pyarrow.ipc.new_file(file, schema) as writer:
            for batch in self._batches(number, group, rows):
                writer.write_batch(batch)

    def _parquet(self, number: int) -> Any:
        import pyarrow.parquet

        path = self.files[number]
        # Read, not mapped: a mapped file's pages would count as this process's memory.
        return self._kept(number, lambda: pyarrow.parquet.ParquetFile(path, memory_map=False, pre_buffer=False))

    def _arrow(self, number: int) -> Any:
        import pyarrow

        def opened() -> list[pyarrow.RecordBatch]:
            file = pyarrow.memory_map(str(self.files[number]))
            try:
                return list(pyarrow.ipc.open_stream(file))
            except pyarrow.ArrowInvalid:
                reader = pyarrow.ipc.open_file(file)
                return [reader.get_batch(place) for place in range(reader.num_record_batches)]

        return self._kept(number, opened)

    def _kept(self, number: int, opened: Any) -> Any:
        if number not in self._opened:
            self._opened[number] = opened()
            if len(self._opened) > OPEN:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]

    def _described(self, number: int) -> tuple[Any, list[int]]:
        """A file's schema, and the rows of each of its groups."""
        import pyarrow

        path = self.files[number]
        try:
            if self._parquets[number]:
                file = self._parquet(number)
                told = file.metadata
                return file.schema_arrow, [told.row_group(group).num_rows for group in range(told.num_row_groups)]
            batches = self._arrow(number)
            if not batches:
                raise ValueError("it holds no rows")
            return batches[0].schema, [batch.num_rows for batch in batches]
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise ValueError(
                f"{path}: found no readable table ({error}); expected Parquet, or Arrow's stream or file. Fix: copy it "
                "anew, or leave it out."
            ) from error

    def _forget(self) -> None:
        self._opened: OrderedDict[int, Any] = OrderedDict()
        self._held: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._large: set[tuple[int, int]] = set()


def need_pyarrow(path: str | Path) -> None:
    """Names the extra that brings pyarrow.

    Raises:
        ValueError: it isn't installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{path}: found neither pyarrow nor datasets; expected both, which read this set. Fix: pip install "
            "'isthmus[datasets]'."
        ) from error


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def _plain(schema: Any) -> list[str]:
    """Columns of texts, numbers, and what is true or false."""
    import pyarrow.types as types

    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return [field.name for field in schema if any(test(field.type) for test in tests)]


def _labels(schema: Any) -> dict[str, list[str]]:
    """The names of classes, as Hugging Face's library writes them beside a schema."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        classes = {name: of for name, of in told.items() if isinstance(of, dict) and of.get("_type") == "ClassLabel"}
        return {name: [str(one) for one in of["names"]] for name, of in classes.items()}
    except (LookupError, ValueError, TypeError, AttributeError):
        return {}
