"""Where each record of a large text file begins: JSON lines, JSON arrays, comma- and tab-separated tables.

A file is passed through once; per record an offset and a line number stay, 16 bytes, and those of a large file are kept
from run to run (:mod:`isthmus.data.conversations.line_index`). JSON lines and tables without quotes hold a record a
line, so that finding the line ends is enough. An array, and a table whose quoted fields may hold line ends, have to be
parsed: that takes some seconds per million records, once. ``json.JSONDecoder.raw_decode`` over a sliding window does
for arrays what a streaming parser such as ijson would, and tells where an element ends, which ijson doesn't: only with
that can a record be read again without the file before it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from isthmus.data.conversations.line_index import LONGEST, KeptIndex, Lines, indexed_lines
from isthmus.data.errors import DataError, fault
from isthmus.data.packed import unpacked
from isthmus.data.retries import DISK
from isthmus.paths import user_path

_CHUNK = 1 << 20
_BLANK = re.compile(r"[ \t\r\n]*")
_BOM = codecs.BOM_UTF8

# By default a field ends after 131,072 characters, and what is left of it would be read as rows of their own.
csv.field_size_limit(max(LONGEST, csv.field_size_limit()))


class Records:
    """The records of a text file, by number. One that gzip or zstd packed is unpacked first.

    They are pickled as their constructor's arguments: a data worker opens the file anew, by the index that is kept.

    Raises:
        ValueError: no such file, an empty one, or one in UTF-16 or UTF-32.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        records = super().__new__(cls)
        records._arguments = args, kwargs
        return records

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        if not self.path.is_file():
            raise ValueError(f"{self.path}: found no file; expected a set's records. Fix: correct the path.")
        self._data = unpacked(self.path)
        with self._data.open("rb") as file:
            head = file.read(4)
            wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head
            if wide:
                raise ValueError(
                    f"{self.path}: found UTF-16 or UTF-32; expected UTF-8. Fix: convert it (iconv -f UTF-16 -t UTF-8)."
                )
        self._begin = len(_BOM) if head.startswith(_BOM) else 0
        self._offsets, self._lines = self._index()
        if not len(self):
            raise self._empty()

    def __len__(self) -> int:
        return len(self._offsets)

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (type(self), *self._arguments, len(self))

    def raw(self, index: int) -> tuple[Any, str]:
        """A record, and its file and line for errors.

        Raises:
            DataError: it isn't UTF-8, or not of the file's form.
        """
        raise NotImplementedError  # a subclass's duty

    def where(self, index: int) -> str:
        """The file and line at which a record begins."""
        return f"{self.path}:{self._lines[index]}"

    def _index(self) -> Lines:
        """Where the records begin."""
        raise NotImplementedError

    def _text(self, index: int) -> str:
        """From a record's first byte to the next one's."""
        begin = int(self._offsets[index])
        place = index % len(self) + 1
        end = int(self._offsets[place]) if place < len(self._offsets) else self._data.stat().st_size
        data = DISK.run(str(self.path), lambda: self._bytes(begin, max(0, min(end - begin, LONGEST))))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._fault(
                index, f"found bytes that aren't UTF-8 ({error.reason})", "save the file as UTF-8"
            ) from error

    def _bytes(self, begin: int, size: int) -> bytes:
        # Opened anew each time: worker processes share no file position.
        with self._data.open("rb") as file:
            file.seek(begin)
            return file.read(size)

    def _empty(self) -> ValueError:
        return ValueError(f"{self.path}: found no records; expected at least one. Fix: fill the file.")

    def _fault(self, index: int, found: str, fix: str) -> DataError:
        return fault(self.where(index), found, "a whole record", fix)


def _opened(kind: type[Records], args: tuple[Any, ...], kwargs: dict[str, Any], count: int) -> Records:
    records = kind(*args, **kwargs)
    if len(records) != count:
        raise ValueError(
            f"{records.path}: found {len(records)} records, where there were {count}; expected a file that stays as it "
            "is while it is read. Fix: begin the run anew, and write new records into another file."
        )
    return records


class JsonRecords(Records):
    """A JSON array, or one JSON value a line: told apart by the first character.

    An array that breaks off, or that anything follows, has one more record: that place, which is a :class:`DataError`
    when it is read.
    """

    def __init__(self, path: str | Path) -> None:
        self._is_array = False
        self._broken: str | None = None
        super().__init__(path)

    def raw(self, index: int) -> tuple[Any, str]:
        if self._broken is not None and index % len(self) == len(self) - 1:
            raise self._fault(index, self._broken, "fix the array at this line")
        text = self._text(index)
        try:
            value = json.JSONDecoder().raw_decode(text)[0] if self._is_array else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._fault(index, f"found no JSON ({error})", "correct the line") from error
        return value, self.where(index)

    def _index(self) -> Lines:
        offset, line = self._begin, 1
        with self._data.open("rb") as file:
            file.seek(offset)
            while (data := file.read(_CHUNK)) and not data.strip():
                offset, line = offset + len(data), line + data.count(b"\n")
            lead = len(data) - len(data.lstrip())
            self._is_array = data[lead : lead + 1] == b"["
            if not self._is_array:
                return indexed_lines(self._data, None)
            kept = KeptIndex.of(self._data, "whole array")
            lines = kept.read()
            if lines is None:
                offset, line = offset + lead + 1, line + data[:lead].count(b"\n")
                file.seek(offset)
                lines = self._array(file, offset, line)
                if self._broken is None:
                    kept.write(lines)
        return lines

    def _array(self, file: BinaryIO, offset: int, line: int) -> Lines:
        found = array("q"), array("q")
        # What isn't UTF-8 is passed over here, byte for byte, and told when its record is read.
        incremental = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        decode = json.JSONDecoder().raw_decode
        text, at, comma, closed = "", 0, False, False

        def forward(to: int) -> None:
            nonlocal offset, line, at
            passed = text[at:to]
            offset += len(passed.encode("utf-8", "surrogateescape"))
            line += passed.count("\n")
            at = to

        def more() -> bool:
            nonlocal text, at
            if len(text) - at > LONGEST:
                return False
            data = file.read(max(_CHUNK, len(text) - at))
            text, at = text[at:] + incremental.decode(data, final=not data), 0
            return bool(data)

        while True:
            blank = _BLANK.match(text, at)
            assert blank is not None
            forward(blank.end())
            if at == len(text):
                if more():
                    continue
                if closed:
                    return found
                return self._break(found, offset, line, "found the file's end before the array's ']'")
            if closed:
                # Several arrays in a row, say: what follows would be lost without a word.
                return self._break(found, offset, line, f"found {text[at]!r} after the array's ']', not the file's end")
            if text[at] == "]":
                forward(at + 1)
                closed = True
                continue
            if comma:
                if text[at] != ",":
                    return self._break(found, offset, line, f"found {text[at]!r} between two records, not ','")
                forward(at + 1)
                comma = False
                continue
            try:
                _, end = decode(text, at)
            except (ValueError, RecursionError) as error:
                if more():
                    continue
                return self._break(found, offset, line, f"found no JSON ({error})")
            length = end - at
            if len(text) - end <= len("e+") and more():
                continue  # a number may go on
            found[0].append(offset)
            found[1].append(line)
            forward(at + length)
            comma = True

    def _break(self, found: tuple[array[int], array[int]], offset: int, line: int, broken: str) -> Lines:
        self._broken = broken
        found[0].append(offset)
        found[1].append(line)
        return found


class CsvRecords(Records):
    """Rows of a table, by Python's csv module: as mappings by column.

    Args:
        path: the file.
        delimiter: between columns.
        columns: their names where the file has no row of names.
        quoted: whether fields may be enclosed; tab-separated captions mostly hold ``"`` as a plain character.
        quote: the character that encloses them, which is doubled within.
        escape: a character before which a quote is a plain character, as a backslash.

    Raises:
        ValueError: as :class:`Records`.
    """

    def __init__(
        self,
        path: str | Path,
        delimiter: str = ",",
        columns: Sequence[str] | None = None,
        quoted: bool = True,
        quote: str = '"',
        escape: str | None = None,
    ) -> None:
        self._dialect: dict[str, Any] = {"delimiter": delimiter, "strict": quoted, "quotechar": quote}
        self._dialect |= {"quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, "escapechar": escape}
        try:
            csv.reader((), **self._dialect)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: delimiter, quote, escape: found {delimiter!r}, {quote!r} and {escape!r} ({error}); expected "
                "single characters that differ. Fix: correct them."
            ) from error
        self._quoted = quoted
        super().__init__(path)
        self.columns = list(columns or [])
        if columns is None:
            self.columns = self._fields(0)
            self._offsets, self._lines = self._offsets[1:], self._lines[1:]
            if not len(self):
                raise self._empty()

    def raw(self, index: int) -> tuple[Any, str]:
        fields = self._fields(index)
        if len(fields) != len(self.columns):
            found = f"found {len(fields)} fields for the {len(self.columns)} columns {', '.join(self.columns)}"
            raise self._fault(index, found, "quote fields that hold the separator")
        return dict(zip(self.columns, fields, strict=True)), self.where(index)

    def _fields(self, index: int) -> list[str]:
        try:
            # Lines end where the index says that they do, and not at other characters that Unicode calls line ends.
            return next(csv.reader(io.StringIO(self._text(index), newline="\n"), **self._dialect))
        except (csv.Error, StopIteration) as error:
            raise self._fault(index, f"found no row ({error})", "correct the quotes of this row") from error

    def _index(self) -> Lines:
        if not self._quoted:
            return indexed_lines(self._data, b"\r\n")
        kept = KeptIndex.of(self._data, f"whole rows by {self._dialect}")
        lines = kept.read()
        if lines is None:
            lines = self._rows()
            kept.write(lines)
        return lines

    def _rows(self) -> Lines:
        offsets, numbers = array("q"), array("q")
        offset, line = self._begin, 1  # of what has been handed out

        def lines(file: BinaryIO) -> Iterator[str]:
            nonlocal offset, line
            while data := file.readline(LONGEST):
                offset += len(data)
                line += data.endswith(b"\n")
                yield data.decode("utf-8", "surrogateescape")

        with self._data.open("rb") as file:
            file.seek(offset)
            feed = lines(file)
            while True:
                begin, first = offset, line
                try:
                    # A new reader a row: one that met an error is in the middle of a field.
                    fields = next(csv.reader(feed, **self._dialect), None)
                except csv.Error:
                    fields = ["broken"]
                if fields is None:
                    return offsets, numbers
                if fields:
                    offsets.append(begin)
                    numbers.append(first)
