"""Indexing: every record where it is, by line, however large the file; what is broken is one record's fault."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import packed
from isthmus.data.conversations import line_index
from isthmus.data.conversations import records as module
from isthmus.data.conversations.records import CsvRecords, JsonRecords, Records
from isthmus.data.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def written(folder: Path, data: str | bytes, name: str = "a.json") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def everything(records: Records) -> list[Any]:
    return [records.raw(i)[0] for i in range(len(records))]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@given(values=st.lists(VALUES, min_size=1, max_size=6), indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_arrays_come_back_element_by_element(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, values: list[Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        records = JsonRecords(written(tmp_path_factory.mktemp("array"), text.encode("utf-8", "replace")))
    assert everything(records) == json.loads(text.encode("utf-8", "replace"))


def test_lines_and_arrays_name_their_lines(tmp_path: Path) -> None:
    lines = JsonRecords(written(tmp_path, '\n{"a": 1}\n\n{"a": 2}\n'))
    assert [lines.raw(i)[1].rpartition(":")[2] for i in (0, 1)] == ["2", "4"]
    array = JsonRecords(written(tmp_path, '\ufeff\n[\n {"a":\n  "ü"},\n {"a": 2}\n]\n', "b.json"))
    assert [array.raw(i) for i in (0, 1)] == [
        ({"a": "ü"}, f"{tmp_path / 'b.json'}:3"),
        ({"a": 2}, f"{tmp_path / 'b.json'}:5"),
    ]


@pytest.mark.parametrize(
    ("tail", "line", "says"),
    [
        (', {"a": ', 3, "no JSON"),
        ("", 3, "end before"),
        (' {"a": 2}]', 3, "between two records"),
        (", nonsense]", 3, "no JSON"),
        (', {"a": "' + "x" * 50, 3, "no JSON"),
        ('] [{"a": 2}]', 3, r"after the array's '\]'"),
        ("]" + "\n" * (1 << 21) + "nonsense", 3 + (1 << 21), r"after the array's '\]'"),
    ],
)
def test_a_broken_array_is_good_up_to_where_it_breaks(tmp_path: Path, tail: str, line: int, says: str) -> None:
    path = written(tmp_path, '[\n {"a": 1}\n' + tail)
    records = JsonRecords(path)
    assert len(records) == 2 and records.raw(0)[0] == {"a": 1}
    for index in (1, -1):
        with pytest.raises(DataError, match=f"{path.name}:{line}: found .*{says}"):
            records.raw(index)


def test_a_line_cut_in_half_is_that_lines_fault(tmp_path: Path) -> None:
    records = JsonRecords(written(tmp_path, '{"a": 1}\n{"a": \n{"a": 3}\n'))
    assert (records.raw(0)[0], records.raw(2)[0]) == ({"a": 1}, {"a": 3})
    with pytest.raises(DataError, match=r"a\.json:2: found no JSON"):
        records.raw(1)


@pytest.mark.parametrize("array", [True, False])
def test_wrong_encodings(tmp_path: Path, array: bool) -> None:
    text = '[{"a": "é"},\n {"a": "b"}]' if array else '{"a": "é"}\n{"a": "b"}'
    records = JsonRecords(written(tmp_path, text.encode("latin-1")))
    assert records.raw(1)[0] == {"a": "b"}
    with pytest.raises(DataError, match=r"a\.json:1: found bytes that aren't UTF-8"):
        records.raw(0)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        with pytest.raises(ValueError, match="UTF-16"):
            JsonRecords(written(tmp_path, text.encode(encoding)))


@given(rows=st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=6))
def test_tables_come_back_row_by_row(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    path = written(tmp_path_factory.mktemp("table"), "\ufeff" + buffer.getvalue())
    if not rows:
        with pytest.raises(ValueError, match="no records"):
            CsvRecords(path)
        return
    assert everything(CsvRecords(path)) == [{"a": a, "b": b} for a, b in rows]


def test_a_bad_row_is_that_rows_fault(tmp_path: Path) -> None:
    records = CsvRecords(written(tmp_path, 'a,b\n1,2\n1,2,3\n"two\nlines",4\n"x"y,5\n6,7\n'))
    assert len(records) == 5
    assert [records.raw(i)[0] for i in (0, 2, 4)] == [
        {"a": "1", "b": "2"},
        {"a": "two\nlines", "b": "4"},
        {"a": "6", "b": "7"},
    ]
    with pytest.raises(DataError, match=r"a\.json:3: found 3 fields for the 2 columns a, b"):
        records.raw(1)
    with pytest.raises(DataError, match=r"a\.json:6: found no row"):
        records.raw(3)


def test_a_long_field_is_one_field(tmp_path: Path) -> None:
    long = "x" * 140_000 + "\nsecond line, and more\nthird"
    records = CsvRecords(written(tmp_path, f'a,b\na.png,"{long}"\nb.png,short\n'))
    assert [records.raw(i)[0] for i in range(len(records))] == [{"a": "a.png", "b": long}, {"a": "b.png", "b": "short"}]


def test_an_open_quote_is_told(tmp_path: Path) -> None:
    records = CsvRecords(written(tmp_path, 'a,b\n1,2\n"1,2\n3,4\n'))
    assert len(records) == 2
    with pytest.raises(DataError, match=r"a\.json:3: found no row"):
        records.raw(1)


def test_no_file_and_no_records(tmp_path: Path) -> None:
    for data in (b"", b"\n \n", b"[ ]", b"\xef\xbb\xbf"):
        with pytest.raises(ValueError, match="no records"):
            JsonRecords(written(tmp_path, data))
    with pytest.raises(ValueError, match="no file"):
        JsonRecords(tmp_path / "absent.json")


@pytest.mark.parametrize("array", [True, False])
def test_an_index_costs_sixteen_bytes_a_record(tmp_path: Path, array: bool) -> None:
    count = 30_000
    lines = [json.dumps({"id": i, "caption": "x" * 40}) for i in range(count)]
    path = written(tmp_path, "[" + ",\n".join(lines) + "]" if array else "\n".join(lines))
    tracemalloc.start()
    records = JsonRecords(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A million: 16 MB and what arrays reserve in growing, well below 200 MB.
    assert len(records) == count and held < 24 * count and peak < 24 * count + 12 * (1 << 20)
    assert records.raw(count - 1)[0]["id"] == count - 1


def outcomes(records: Records) -> list[Any]:
    """Each record with its line, or its fault."""
    found: list[Any] = []
    for index in range(len(records)):
        try:
            found.append(records.raw(index))
        except DataError as error:
            found.append(str(error))
    return found


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every file is large enough for an index, which lies here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(line_index, "LARGE", 1)
    return tmp_path / "cache" / "isthmus" / "lines"


LINES = '\n{"a": 1}\n\n{"a": \n{"a": "\u2028é"}\n  \n[3]'
ARRAY = '\ufeff\n [ {"a": 1},\n\n {"a":\n "é"} , [3]\n]\n'
TABLE = 'a,b\n1,2\n1,2,3\n\n"two\n\u2028lines",4\n"x"y,5\n6,7\n'
TABBED = '\ufeffa "cat\thttp://1\n\n\t\na\u2028dog\x0b\thttp://2\r\na\tb\tc\na\rb\tc\nlast\thttp://3'


@pytest.mark.parametrize(
    ("text", "make"),
    [
        (LINES, JsonRecords),
        (ARRAY, JsonRecords),
        (TABLE, CsvRecords),
        (TABLE.replace(",", ";"), lambda path: CsvRecords(path, ";")),
        (TABLE, lambda path: CsvRecords(path, columns=["a", "b"])),
        (TABBED, lambda path: CsvRecords(path, "\t", ["caption", "url"], quoted=False)),
        ("caption\turl\n" + TABBED, lambda path: CsvRecords(path, "\t", quoted=False)),
    ],
)
def test_records_are_the_same_from_a_kept_index(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, text: str, make: Any
) -> None:
    """The file isn't passed through again, and what is broken is told at the same line."""
    path = written(tmp_path, text)
    first = make(path)
    assert len(list(kept.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(line_index, "_scanned", lambda *_: pytest.fail("the index was there"))
        patch.setattr(JsonRecords, "_array", lambda *_: pytest.fail("the index was there"))
        patch.setattr(CsvRecords, "_rows", lambda *_: pytest.fail("the index was there"))
        again = make(path)
    assert outcomes(again) == outcomes(first) and len(again) >= 3
    assert getattr(again, "columns", None) == getattr(first, "columns", None)
    path.write_bytes(path.read_bytes() + b"\n")
    assert outcomes(make(path)) == outcomes(first)


def test_a_table_without_quotes_is_read_line_by_line(tmp_path: Path) -> None:
    """A row a line, as the csv module says; white space is a row, since a row's number may name its file."""
    records = CsvRecords(written(tmp_path, TABBED), "\t", ["caption", "url"], quoted=False)
    caption, url = "caption", "url"
    found = outcomes(records)
    assert [each[0] for each in found if isinstance(each, tuple)] == [
        {caption: 'a "cat', url: "http://1"},
        {caption: "", url: ""},
        {caption: "a\u2028dog\x0b", url: "http://2"},
        {caption: "last", url: "http://3"},
    ]
    faults = [each for each in found if isinstance(each, str)]
    assert "a.json:5: found 3 fields for the 2 columns" in faults[0]
    assert "a.json:6: found no row" in faults[1] and len(found) == 6


def test_a_broken_array_is_read_anew_until_it_is_mended(tmp_path: Path, kept: Path) -> None:
    path = written(tmp_path, '[{"a": 1}, {"a": ')
    for _ in range(2):
        with pytest.raises(DataError, match="found no JSON"):
            JsonRecords(path).raw(1)
    assert not kept.exists()


@pytest.mark.parametrize("header", [b"caption\r\tb", b'"caption,url', b"\xff,b"])
def test_a_row_of_names_that_is_none_is_told(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ValueError, match=r"a\.json:1: found (no row|bytes)"):
        CsvRecords(written(tmp_path, header + b"\n1,2\n"))


PACKERS = {"gz": gzip.compress, "zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True)}


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_are_read_by_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Several members too, as tools write them that append; unpacked once, and anew when the file is another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pack = PACKERS[ending]
    lines = [json.dumps({"n": i}).encode() + b"\n" for i in range(200)]
    for form in (b"".join(lines), b"[" + b",".join(lines) + b"]"):
        path = written(tmp_path, pack(form), f"a.jsonl.{ending}")
        records = JsonRecords(path)
        assert everything(records) == [{"n": i} for i in range(200)]
        assert records.where(7) == f"{path}:8"
        assert everything(JsonRecords(path)) == everything(records)
    path = written(tmp_path, pack(b"a,b\n1,2\n") + pack(b"3,4\n"), f"a.csv.{ending}")
    assert everything(CsvRecords(path)) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    kept = [one for one in (tmp_path / "cache").rglob("*") if one.is_file() and one.name != "lock"]
    assert len(kept) == 3
    with pytest.raises(ValueError, match=r"b\.jsonl: found no whole packed file .* Fix: copy it anew"):
        JsonRecords(written(tmp_path, pack(b"".join(lines))[:60], "b.jsonl"))
    with pytest.raises(ValueError, match="UTF-16"):
        JsonRecords(written(tmp_path, pack('{"a": 1}'.encode("utf-16")), "c.jsonl"))
    monkeypatch.setattr(packed, "_LEAST", 1000)
    monkeypatch.setattr(packed, "_RATIO", 2)
    with pytest.raises(ValueError, match=r"it unfolds to more than \d+ bytes"):
        JsonRecords(written(tmp_path, pack(b" " * 100_000), "d.jsonl"))
    # What failed leaves nothing behind; the one in UTF-16 could be unpacked.
    assert len([one for one in (tmp_path / "cache").rglob("*") if one.is_file() and one.name != "lock"]) == 4


def test_tables_may_be_quoted_in_other_ways(tmp_path: Path) -> None:
    single = CsvRecords(written(tmp_path, "f;caption\n1.png;'it''s; so'\n2.png;'two\nlines'\n"), ";", quote="'")
    assert everything(single) == [{"f": "1.png", "caption": "it's; so"}, {"f": "2.png", "caption": "two\nlines"}]
    escaped = CsvRecords(written(tmp_path, 'f,caption\n1.png,"a \\"cat\\", so"\n'), escape="\\")
    assert everything(escaped) == [{"f": "1.png", "caption": 'a "cat", so'}]
    with pytest.raises(ValueError, match=r"delimiter, quote, escape: found ',', '--' .*expected single characters"):
        CsvRecords(written(tmp_path, "a,b\n1,2\n"), quote="--")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (JsonRecords, "".join(f'{{"n": {i}}}\n\n' for i in range(5000))),
        (JsonRecords, "[" + ",\n".join(f'{{"n": {i}}}' for i in range(5000)) + "]"),
        (CsvRecords, "n,word\n" + "".join(f'{i},"a, b"\n' for i in range(5000))),
    ],
)
def test_records_travel_as_what_opens_them(kind: type[JsonRecords | CsvRecords], text: str, tmp_path: Path) -> None:
    records = kind(written(tmp_path, text))
    pickled = pickle.dumps(records)
    assert len(pickled) < 500
    again = pickle.loads(pickled)
    assert len(again) == 5000 and again.raw(4321) == records.raw(4321) and again.where(9) == records.where(9)
    records.path.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(ValueError, match=r"found 25\d\d records, where there were 5000; .* Fix: begin the run anew"):
        pickle.loads(pickled)
