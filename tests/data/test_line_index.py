"""An index of lines says what passing through the file says, and never what another file said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from isthmus.data import line_index as module
from isthmus.data.line_index import index_of, line_index


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LARGE", 1)
    written = tmp_path / "lines.jsonl"
    written.write_bytes(b"one\n\ntwo\r\n   \nthree\nfour")
    return written


def lists(path: Path) -> list[list[int]]:
    return [list(map(int, part)) for part in line_index(path)]


def test_equals_passing_through_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lists(path)
    assert first == [[0, 5, 14, 20], [1, 3, 5, 6]]
    assert index_of(path).is_file()
    monkeypatch.setattr(module, "_scanned", lambda path: pytest.fail("the index was there"))
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
