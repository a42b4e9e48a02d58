"""What fails in passing is tried again; what is wrong in itself is told at once; a dead store is waited for once."""

from __future__ import annotations

import errno
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from isthmus.data.conversations.sources import JsonLines
from isthmus.data.errors import DataError, data_faults
from isthmus.data.media.files import read_media
from isthmus.data.media.locations import resolve_path
from isthmus.data.retries import DISK, WAITS, Retries, is_disks, is_stores
from isthmus.data.streaming.storage import Storage
from isthmus.types import Modality


class Answer(Exception):
    """A server's answer, as clients of object stores raise it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Flaky(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store in memory that fails a few times before it answers."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 # fsspec's own, not to be shared with other tests'
    failures: list[Exception] = []  # noqa: RUF012

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        if self.failures:
            raise self.failures.pop()
        found: bytes = super().cat_file(path, start, end, **options)
        return found


@pytest.fixture
def storage() -> Storage:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    made = Storage("flaky://set")
    made.write("a", [b"content"])
    made.retries.waits = (0.0,) * len(WAITS)
    Flaky.failures = []
    return made


PASSING = [OSError(errno.EBUSY, "slow down"), Answer(503), TimeoutError("no answer"), RuntimeError("server left")]


def test_a_busy_store_is_asked_again(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    Flaky.failures = list(PASSING)
    with caplog.at_level(logging.WARNING):
        assert storage.read("a", 1, 4) == b"ont"
    assert len(caplog.records) == len(PASSING) and "flaky://set/a: RuntimeError: server left" in caplog.text
    assert pickle.loads(pickle.dumps(storage)).read("a") == b"content"


@pytest.mark.parametrize("error", [FileNotFoundError("a"), PermissionError("a"), Answer(404), ValueError("a")])
def test_a_wrong_request_is_told_at_once(storage: Storage, error: Exception) -> None:
    Flaky.failures = [Answer(500), error]
    with pytest.raises(DataError, match=rf"{type(error).__name__}.*Fix: check that it exists"):
        storage.read("a")
    assert len(Flaky.failures) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.ENOMEM])
def test_what_this_machine_has_no_more_of_is_no_fault_of_a_sample(storage: Storage, code: int) -> None:
    """The next sample would meet it too; nor is it the store's, which isn't asked again."""
    Flaky.failures = [OSError(code, "no more"), OSError(code, "no more")]
    with pytest.raises(OSError, match="no more"), data_faults("set/0"):
        storage.read("a")
    assert len(Flaky.failures) == 1


def test_a_dead_store_is_waited_for_once(storage: Storage) -> None:
    Flaky.failures = [Answer(500) for _ in range(len(WAITS) + 3)]
    for _ in range(3):
        with pytest.raises(DataError, match="status 500"):
            storage.read("a")
    assert not Flaky.failures and storage.retries.is_down
    assert storage.read("a") == b"content" and not storage.retries.is_down


def test_waits_grow_and_part(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("isthmus.data.retries.sleep", slept.append)
    with pytest.raises(TimeoutError):
        Retries(is_stores).run("here", lambda: (_ for _ in ()).throw(TimeoutError()))
    assert len(slept) == len(WAITS) and all(wait / 2 <= own <= wait for own, wait in zip(slept, WAITS, strict=True))


def test_network_disks_are_read_again_and_damage_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
    monkeypatch.setattr(DISK, "waits", (0.0, 0.0))
    own_open, failures, path_open = Image.open, [OSError(errno.ESTALE, "stale handle")], Path.open

    def flaky(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return own_open(*arguments, **options)

    monkeypatch.setattr(Image, "open", flaky)
    assert read_media(tmp_path / "a.png", Modality.IMAGE).array.shape == (4, 4, 3) and not failures
    source = JsonLines(tmp_path / "a.jsonl")
    failures = [OSError(errno.EIO, "input/output error")]
    monkeypatch.setattr(Path, "open", lambda *given, **named: _fails(failures) or path_open(*given, **named))
    assert source[0].messages[0].role == "user" and not failures
    assert not is_disks(OSError("image file is truncated")) and not is_disks(FileNotFoundError(errno.ENOENT, "x"))


def test_a_file_that_is_looked_for_while_its_disk_is_gone_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").touch()
    monkeypatch.setattr(DISK, "waits", (0.0, 0.0))
    failures, is_file = [OSError(errno.ESTALE, "stale handle"), OSError(errno.ETIMEDOUT, "timed out")], Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: _fails(failures) or is_file(path))
    assert resolve_path("a.png", tmp_path, "here") == tmp_path / "a.png" and not failures


def _fails(failures: list[OSError]) -> None:
    if failures:
        raise failures.pop()
