"""What files hold, known by size and time of change: read once, and read again where either is another."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from pathlib import Path

from isthmus.cache.files import INDEX, FileDigests


def aged(path: Path, content: bytes, seconds: float = 60.0) -> Path:
    path.write_bytes(content)
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def plain(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def test_a_known_file_is_not_read_again(tmp_path: Path) -> None:
    path = aged(tmp_path / "a.png", b"one")
    first = FileDigests(tmp_path)
    assert first.digest(path) == plain(b"one") and first.read == 1
    for again in (first, FileDigests(tmp_path)):
        before = again.read
        assert again.digest(path) == plain(b"one") and again.read == before


def test_another_size_or_time_is_read_again(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path)
    for content, seconds in ((b"one", 60.0), (b"two", 50.0), (b"longer", 50.0)):
        assert digests.digest(aged(tmp_path / "a.png", content, seconds)) == plain(content)
    assert digests.read == 3


def test_a_file_that_has_just_changed_is_read_each_time(tmp_path: Path) -> None:
    path, digests = tmp_path / "a.png", FileDigests(tmp_path)
    for content in (b"one", b"two"):
        path.write_bytes(content)
        os.utime(path)
        assert digests.digest(path) == plain(content)
    assert digests.read == 2


def test_a_file_whose_time_lies_ahead_is_read_each_time(tmp_path: Path) -> None:
    """By a clock that runs ahead, every change within the hour would have a time of which nothing is known."""
    digests = FileDigests(tmp_path)
    for content in (b"one", b"two"):
        assert digests.digest(aged(tmp_path / "a.png", content, -3600.0)) == plain(content)
    assert digests.read == 2


def test_a_damaged_index_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_bytes(b"no database" * 1000)
    path = aged(tmp_path / "a.png", b"one")
    assert FileDigests(tmp_path).digest(path) == plain(b"one")
