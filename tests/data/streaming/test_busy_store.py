"""Shards behind HTTP: a store that answers 503 is asked again; one that goes on so is one error, or skipped samples."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from data.streaming.shard_sets import lines, same, sharded

from isthmus.data.batching.fetch import Steps
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.errors import DataError
from isthmus.data.retries import WAITS
from isthmus.data.streaming.source import Shards


class Store(ThreadingHTTPServer):
    """Serves a folder by ranges, and answers 503 as often as it is told.

    Attributes:
        busy: how many of the next requests are refused.
        refused: how many were.
    """

    folder: Path
    busy = 0.0
    refused = 0


class Answers(BaseHTTPRequestHandler):
    server: Store

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        file = self.server.folder / self.path.rpartition("/")[2]
        if self.server.busy > 0:
            self.server.busy -= 1
            self.server.refused += 1
            self.send_error(503, "Slow Down")
        elif not file.is_file():
            self.send_error(404)
        else:
            content = file.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            part = content if asked is None else content[int(asked[1]) : int(asked[2]) + 1]
            self.send_response(200 if asked is None else 206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Store, Shards, JsonLines]]:
    """A store with a set, as it is opened, and the set's own files."""
    files = JsonLines(lines(tmp_path / "files", 6))
    sharded(files, str(tmp_path / "shards"))
    with Store(("127.0.0.1", 0), Answers) as server:
        server.folder = tmp_path / "shards"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = Shards(f"http://127.0.0.1:{server.server_address[1]}/set")
        source.storage.retries.waits = (0.0,) * len(WAITS)
        yield server, source, files
        server.shutdown()


def test_it_is_asked_again_and_nothing_is_lost(
    store: tuple[Store, Shards, JsonLines], caplog: pytest.LogCaptureFixture
) -> None:
    server, source, files = store
    server.busy = len(WAITS)
    assert same(source, files) and server.refused == len(WAITS)
    assert len([line for line in caplog.messages if "503" in line and "tried again in" in line]) == len(WAITS)


def test_one_that_is_gone_is_one_error_or_samples_less(
    store: tuple[Store, Shards, JsonLines], caplog: pytest.LogCaptureFixture
) -> None:
    from isthmus.data.sampling.schedule import InOrder

    server, source, _ = store
    caplog.set_level(logging.ERROR)
    server.busy = float("inf")
    with pytest.raises(DataError, match=r"http://.*503.*expected a file of a set of shards. Fix: check"):
        source[0]
    assert server.refused == len(WAITS) + 1
    steps = Steps(InOrder("train", {"set": len(source)}, 2, 0), {"set": source}, _Plain(), 0, 1, "skip")  # type: ignore[arg-type]
    server.busy = 1
    fetched = steps[0]
    assert fetched.error is None and fetched.batch == ["n1", "n1"]  # the first couldn't be read: the next stands for it
    (skipped,) = fetched.skipped
    assert "503" in str(skipped) and skipped.fault == "path"


class _Plain:
    """A collator of ids."""

    def sample(self, conversation: Any) -> str:
        return str(conversation.details["id"])

    def batch(self, samples: list[str]) -> list[str]:
        return list(samples)
