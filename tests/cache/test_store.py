"""The store of tensors: exact, bounded, whole after a kill, and shared by several writers."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from isthmus.cache.store import TensorStore

WRITER = """
import sys, torch
from isthmus.cache.store import TensorStore
store = TensorStore(sys.argv[1], 1 << 40)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    if store.get(str(number)) is None:
        store.put({str(number): {"tokens": torch.full((64, 32), float(number))}})
        print(number, flush=True)
"""


def write(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check(store: TensorStore, number: int) -> None:
    held = store.get(str(number))
    assert held is not None
    assert torch.equal(held["tokens"], torch.full((64, 32), float(number)))


def test_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store = TensorStore(tmp_path, 1 << 30)
    given = {
        "tokens": torch.randn(3, 5),
        "mask": torch.tensor([True, False, True]),
        "half": torch.randn(2).bfloat16(),
        "view": torch.arange(12.0).view(3, 4).t(),
        "count": torch.tensor(7),
    }
    assert store.put({"a": given})
    held = TensorStore(tmp_path, 1 << 30).get("a")
    assert held is not None and held.keys() == given.keys()
    assert all(torch.equal(held[name], tensor) and held[name].dtype == tensor.dtype for name, tensor in given.items())
    assert store.get("b") is None


def test_a_killed_writer_loses_nothing_that_it_had_written(tmp_path: Path) -> None:
    writer = write(tmp_path, 0, 100_000)
    assert writer.stdout is not None
    written = [int(writer.stdout.readline()) for _ in range(40)]
    os.kill(writer.pid, signal.SIGKILL)
    written += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    store = TensorStore(tmp_path, 1 << 40)
    for number in written:
        check(store, number)
    before = len(store)
    assert len(written) <= before <= len(written) + 1  # killed between the write and its report
    resumed = write(tmp_path, 0, before + 30)
    output, _ = resumed.communicate()
    assert [int(line) for line in output.split()] == list(range(before, before + 30))


def test_two_writers_at_once(tmp_path: Path) -> None:
    writers = [write(tmp_path, 0, 150), write(tmp_path, 50, 200)]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = TensorStore(tmp_path, 1 << 40)
    assert len(store) == 200
    for number in range(200):
        check(store, number)


def test_stays_below_its_bound_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bound = 3_000_000
    store = TensorStore(tmp_path, bound)
    with caplog.at_level(logging.WARNING, logger="isthmus"):
        added = [store.put({str(number): {"x": torch.zeros(10_000)}}) for number in range(200)]
    assert added[0] and not added[-1]
    assert added == sorted(added, reverse=True)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= bound * 1.1
    assert len([record for record in caplog.records if "max_bytes" in record.message]) == 1
    assert store.get("0") is not None


def test_drops_what_was_used_longest_ago_and_never_what_this_run_uses(tmp_path: Path) -> None:
    bound = 3_000_000
    first = TensorStore(tmp_path, bound)
    number = 0
    while first.put({str(number): {"x": torch.full((10_000,), float(number))}}):
        number += 1
    first.close()
    second = TensorStore(tmp_path, bound)
    used = [str(each) for each in range(5)]  # the ones that were written first, so the oldest but for their use
    assert all(second.get(key) is not None for key in used)
    added = 0
    while second.put({f"new {added}": {"x": torch.full((10_000,), float(added))}}):
        added += 1
        assert added < 1000
    assert second.dropped > 0 and added >= number - len(used) - 10
    assert all(second.get(key) is not None for key in used)
    assert all(second.get(f"new {each}") is not None for each in range(added))
    assert second.get("5") is None
    second.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= bound * 1.1


def test_drops_in_the_order_of_use(tmp_path: Path) -> None:
    made = TensorStore(tmp_path, 3_000_000)
    for number in range(12):
        assert made.put({str(number): {"x": torch.zeros(10_000)}})
        time.sleep(0.002)
    assert made.get("0") is not None  # used last of all
    made.close()
    again = TensorStore(tmp_path, 3_000_000)
    again.began = time.time() + 1
    again._drop(3 * 40_000)
    assert [again.get(str(number)) is None for number in range(12)] == [False, True, True, True] + [False] * 8


def test_a_cache_without_times_of_use_gets_them(tmp_path: Path) -> None:
    store = TensorStore(tmp_path, 1 << 30)
    store.put({"a": {"x": torch.ones(3)}})
    store.close()
    for file in tmp_path.glob("*.sqlite"):
        connection = sqlite3.connect(file)
        connection.execute("drop table uses")
        connection.commit()
        connection.close()
    again = TensorStore(tmp_path, 1 << 30)
    assert again.get("a") is not None
    assert again._drop(1) == 0  # it was used in this run
    again.began = time.time() + 1
    assert again._drop(1) > 0 and again.get("a") is None


def test_a_damaged_value_counts_as_absent_and_can_be_replaced(tmp_path: Path) -> None:
    store = TensorStore(tmp_path, 1 << 30)
    store.put({"a": {"x": torch.ones(100)}})
    store.close()
    for file in tmp_path.glob("*.sqlite"):
        connection = sqlite3.connect(file)
        row = connection.execute("select value from held").fetchone()
        if row is not None:
            value = bytearray(row[0])
            value[-1] ^= 1
            connection.execute("update held set value = ?", (bytes(value),))
            connection.commit()
        connection.close()
    assert store.get("a") is None
    store.put({"a": {"x": torch.ones(100)}})
    assert store.get("a") is not None


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    store = TensorStore(tmp_path, 1 << 30)
    store.put({"a": {"x": torch.ones(1)}})
    store.close()
    file = next(tmp_path.glob("*.sqlite"))
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match=r"\.sqlite: found no readable cache .*delete the cache's folder"):
        store.get("a")


def test_a_forked_process_opens_its_own_files(tmp_path: Path) -> None:
    store = TensorStore(tmp_path, 1 << 30)
    store.put({"a": {"x": torch.ones(3)}})
    child = os.fork()
    if child == 0:
        held = store.get("a")
        os._exit(0 if held is not None and float(held["x"].sum()) == 3 else 1)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done == (child, 0)
    assert store.get("a") is not None


def test_a_bound_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cache\.max_bytes: found 0"):
        TensorStore(tmp_path, 0)


def gone(store: TensorStore, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is found, nothing is added, and that is told once."""
    with caplog.at_level(logging.WARNING, logger="isthmus"):
        assert store.get("a") is None and not store.put({"b": {"x": torch.ones(3)}}) and store.get("b") is None
    (told,) = caplog.messages
    assert "a folder that can't be used any more" in told and "goes on and computes" in told and "Fix:" in told


def test_a_folder_that_vanished_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "cache"
    store = TensorStore(folder, 1 << 30)
    store.put({"a": {"x": torch.ones(3)}})
    store.close()
    shutil.rmtree(folder)
    gone(store, caplog)


def test_a_folder_that_became_read_only_is_done_without() -> None:
    """As a user to whom the folder is closed: nothing is closed to root."""
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "cache"
        TensorStore(folder, 1 << 30).put({"a": {"x": torch.ones(3)}})
        for file in folder.iterdir():
            file.chmod(0o444)
        Path(parent).chmod(0o755)
        folder.chmod(0o555)
        child = os.fork()
        if child == 0:
            if os.getuid() == 0:
                os.setuid(65534)
            caplog, code = _Told(), 1
            try:
                logging.getLogger("isthmus").addHandler(caplog)
                store = TensorStore(folder, 1 << 30)
                assert not store.put({"b": {"x": torch.ones(3)}}) and store.get("b") is None
                store.get("a")  # found where SQLite can read a file that it can't write beside
                assert not store.put({"c": {"x": torch.ones(3)}})
                assert len(caplog.told) == 1 and ("readonly" in caplog.told[0] or "can't be used" in caplog.told[0])
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        folder.chmod(0o755)


class _Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


def test_values_of_a_clock_that_runs_ahead_are_kept(tmp_path: Path) -> None:
    """Times of use from the future look newest: nothing is lost by them, and values are found."""
    ahead = TensorStore(tmp_path, 1 << 30)
    ahead.put({"a": {"x": torch.ones(3)}})
    ahead.close()
    for file in tmp_path.glob("*.sqlite"):
        connection = sqlite3.connect(file)
        connection.execute("update uses set used = ?", (time.time() + 1e6,))
        connection.commit()
        connection.close()
    store = TensorStore(tmp_path, 1 << 30)
    assert store._drop(1) == 0 and store.get("a") is not None
