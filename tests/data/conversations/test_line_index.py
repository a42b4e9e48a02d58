"""An index of lines says what passing through the file says, and never what another file said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from isthmus.data.conversations import line_index as module
from isthmus.data.conversations.line_index import KeptIndex, indexed_lines, line_index


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LARGE", 1)
    written = tmp_path / "lines.jsonl"
    written.write_bytes(b"one\n\ntwo\r\n   \nthree\nfour")
    return written


def lists(path: Path, blank: bytes | None = None) -> list[list[int]]:
    return [list(map(int, part)) for part in (line_index(path) if blank is None else indexed_lines(path, blank))]


def index_of(path: Path) -> Path:
    return KeptIndex.of(path, "lines").place


def test_equals_passing_through_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lists(path)
    assert first == [[0, 5, 14, 20], [1, 3, 5, 6]]
    assert index_of(path).is_file()
    monkeypatch.setattr(module, "_scanned", lambda *_: pytest.fail("the index was there"))
    assert lists(path) == first


def test_a_changed_file_is_passed_through_again(path: Path) -> None:
    line_index(path)
    path.write_bytes(b"one\ntwo\n")
    assert lists(path) == [[0, 4], [1, 2]]
    path.write_bytes(b"a\nb\nc\n\n")  # as many bytes
    os.utime(path, (1, 1))
    assert lists(path) == [[0, 2, 4], [1, 2, 3]]


@pytest.mark.parametrize("content", [b"", b"no index", b"\x93NUMPY\x01\x00"])
def test_a_damaged_index_is_replaced(path: Path, content: bytes) -> None:
    first = lists(path)
    index_of(path).write_bytes(content)
    assert lists(path) == first
    assert np.load(index_of(path)).shape == (2, 5)


def test_a_folder_that_cannot_be_written_costs_time_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file where a folder should be
    assert lists(path) == [[0, 5, 14, 20], [1, 3, 5, 6]]


def test_what_is_blank_is_part_of_the_index(path: Path) -> None:
    """In a table a line of white space is a row of empty fields, and so a fault that is told."""
    assert lists(path, b"\r\n") == [[0, 5, 10, 14, 20], [1, 3, 4, 5, 6]]
    assert lists(path) == [[0, 5, 14, 20], [1, 3, 5, 6]]
    assert len(list(index_of(path).parent.iterdir())) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_line(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfone\ntwo")
    assert lists(path) == [[3, 7], [1, 2]]


@pytest.mark.parametrize("longest", [1, 2, 3, 4, 100])
def test_a_line_beyond_all_measure_is_one_record(path: Path, monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """Passed through in pieces, so that a file without line ends doesn't fill the memory; lines keep their numbers."""
    monkeypatch.setattr(module, "LONGEST", longest)
    path.write_bytes(b"three\n\n      six\nfour")
    offsets, numbers = lists(path)
    assert numbers == [1, 3, 4] and offsets[::2] == [0, 17]
    assert path.read_bytes()[offsets[1] :].lstrip().startswith(b"six")


def test_only_large_files_have_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", path.stat().st_size + 1)
    line_index(path)
    assert not index_of(path).parent.exists()
