"""Where each record of a large text file begins: JSON lines, JSON arrays, comma- and tab-separated tables.

A file is passed through once; per record an offset and a line number stay, 16 bytes. ``json.JSONDecoder.raw_decode``
over a sliding window does for arrays what a streaming parser such as ijson would, and tells where an element ends,
which ijson doesn't: only with that can a record be read again without the file before it.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from isthmus.data.errors import DataError, Fault

LONGEST = 64 << 20
"""Bytes of one record. What is longer is a file cut or glued in the middle."""

_CHUNK = 1 << 20
_BLANK = re.compile(r"[ \t\r\n]*")
_BOM = codecs.BOM_UTF8


class Records:
    """The records of a text file, by number.

    Raises:
        ValueError: no such file, an empty one, or one in UTF-16 or UTF-32.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._offsets = array("q")
        self._lines = array("q")
        if not self.path.is_file():
            raise ValueError(f"{self.path}: found no file; expected a set's records. Mend: correct the path.")
        with self.path.open("rb") as file:
            head = file.read(4)
            wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head
            if wide:
                raise ValueError(
                    f"{self.path}: found UTF-16 or UTF-32; expected UTF-8. Mend: convert it (iconv -f UTF-16 -t UTF-8)."
                )
            start = len(_BOM) if head.startswith(_BOM) else 0
            file.seek(start)
            self._scan(file, start)
        if not len(self):
            raise ValueError(f"{self.path}: found no records; expected at least one. Mend: fill the file.")

    def __len__(self) -> int:
        return len(self._offsets)

    def raw(self, index: int) -> tuple[Any, str]:
        """A record, and its file and line for errors.

        Raises:
            DataError: it isn't UTF-8, or not of the file's form.
        """
        raise NotImplementedError  # a subclass's duty

    def where(self, index: int) -> str:
        """The file and line at which a record begins."""
        return f"{self.path}:{self._lines[index]}"

    def _scan(self, file: BinaryIO, start: int) -> None:
        raise NotImplementedError

    def _add(self, offset: int, line: int) -> None:
        self._offsets.append(offset)
        self._lines.append(line)

    def _text(self, index: int) -> str:
        """From a record's first byte to the next one's."""
        begin = self._offsets[index]
        place = index % len(self) + 1
        end = self._offsets[place] if place < len(self) else self.path.stat().st_size
        # Opened anew each time: worker processes share no file position.
        with self.path.open("rb") as file:
            file.seek(begin)
            data = file.read(max(0, min(end - begin, LONGEST)))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._fault(
                index, f"found bytes that aren't UTF-8 ({error.reason})", "save the file as UTF-8"
            ) from error

    def _fault(self, index: int, found: str, mend: str) -> DataError:
        return DataError(Fault.SCHEMA, f"{self.where(index)}: {found}; expected a whole record. Mend: {mend}.")


class JsonRecords(Records):
    """A JSON array, or one JSON value a line: told apart by the first character.

    An array that breaks off has one more record, the broken place, which is a :class:`DataError` when it is read.
    """

    def __init__(self, path: str | Path) -> None:
        self._is_array = False
        self._broken: str | None = None
        super().__init__(path)

    def raw(self, index: int) -> tuple[Any, str]:
        if self._broken is not None and index % len(self) == len(self) - 1:
            raise self._fault(index, self._broken, "mend the array at this line")
        text = self._text(index)
        try:
            value = json.JSONDecoder().raw_decode(text)[0] if self._is_array else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._fault(index, f"found no JSON ({error})", "correct the line") from error
        return value, self.where(index)

    def _scan(self, file: BinaryIO, start: int) -> None:
        line, offset = 1, start
        for data in file:
            if data.strip():
                break
            line, offset = line + 1, offset + len(data)
        else:
            return
        lead = len(data) - len(data.lstrip())
        if data.lstrip()[:1] == b"[":
            self._is_array = True
            file.seek(offset + lead + 1)
            self._array(file, offset + lead + 1, line)
            return
        file.seek(offset)
        while data := file.readline(LONGEST):
            if data.strip():
                self._add(offset, line)
            offset += len(data)
            line += 1

    def _array(self, file: BinaryIO, offset: int, line: int) -> None:
        # What isn't UTF-8 is passed over here, byte for byte, and told when its record is read.
        incremental = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        decode = json.JSONDecoder().raw_decode
        text, at, comma = "", 0, False

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
                return self._break(offset, line, "found the file's end before the array's ']'")
            if text[at] == "]":
                return None
            if comma:
                if text[at] != ",":
                    return self._break(offset, line, f"found {text[at]!r} between two records, not ','")
                forward(at + 1)
                comma = False
                continue
            try:
                _, end = decode(text, at)
            except (ValueError, RecursionError) as error:
                if more():
                    continue
                return self._break(offset, line, f"found no JSON ({error})")
            length = end - at
            if len(text) - end <= len("e+") and more():
                continue  # a number may go on
            self._add(offset, line)
            forward(at + length)
            comma = True

    def _break(self, offset: int, line: int, found: str) -> None:
        self._broken = found
        self._add(offset, line)


class CsvRecords(Records):
    """Rows of a table, by Python's csv module: as mappings by column.

    Args:
        path: the file.
        delimiter: between columns.
        columns: their names where the file has no row of names.
        quoted: whether ``"`` encloses fields; tab-separated captions mostly hold it as a plain character.

    Raises:
        ValueError: as :class:`Records`.
    """

    def __init__(
        self, path: str | Path, delimiter: str = ",", columns: Sequence[str] | None = None, quoted: bool = True
    ) -> None:
        self._dialect: dict[str, Any] = {"delimiter": delimiter, "strict": quoted}
        self._dialect["quoting"] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        self._named = columns is not None
        self.columns = list(columns or [])
        super().__init__(path)

    def raw(self, index: int) -> tuple[Any, str]:
        try:
            fields = next(csv.reader(self._text(index).splitlines(keepends=True), **self._dialect))
        except (csv.Error, StopIteration) as error:
            raise self._fault(index, f"found no row ({error})", "correct the quotes of this row") from error
        if len(fields) != len(self.columns):
            found = f"found {len(fields)} fields for the {len(self.columns)} columns {', '.join(self.columns)}"
            raise self._fault(index, found, "quote fields that hold the separator")
        return dict(zip(self.columns, fields, strict=True)), self.where(index)

    def _scan(self, file: BinaryIO, start: int) -> None:
        offset, line = start, 1  # of what has been handed out

        def lines() -> Iterator[str]:
            nonlocal offset, line
            while data := file.readline(LONGEST):
                offset += len(data)
                line += 1
                yield data.decode("utf-8", "surrogateescape")

        feed = lines()
        while True:
            begin, first = offset, line
            try:
                # A new reader a row: one that met an error is in the middle of a field.
                fields = next(csv.reader(feed, **self._dialect), None)
            except csv.Error:
                fields = ["broken"]
            if fields is None:
                return
            if not fields:
                continue
            if not self._named:
                self.columns, self._named = fields, True
                continue
            self._add(begin, first)
