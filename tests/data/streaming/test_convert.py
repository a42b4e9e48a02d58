"""Conversions that end in the middle, and what is no fault of a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from data.streaming.shard_sets import lines

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.errors import DataError
from isthmus.data.lint import Linter
from isthmus.data.sampling.mixture import Mixture
from isthmus.data.streaming import Shards
from isthmus.data.streaming.convert import Converted, convert
from isthmus.data.streaming.storage import Storage
from isthmus.data.streaming.writer import ShardWriter


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ConversationSource]:
    """Two sets, one with two bad conversations."""
    folder = tmp_path_factory.mktemp("sets")
    good, bad = lines(folder / "good", 17), lines(folder / "bad", 12)
    told = bad.read_text(encoding="utf-8").splitlines(keepends=True)
    told[3], told[7] = "{\n", told[7].replace("a.mp4", "gone.mp4")
    bad.write_text("".join(told), encoding="utf-8")
    return {"good": JsonLines(good), "bad": JsonLines(bad)}


class Broken(Exception):
    """As good as a kill, for what is on the disk."""


def go(sets: dict[str, ConversationSource], out: Path, stop: int | None = None) -> dict[str, Converted]:
    left = [stop]

    def progress(name: str, positions: Iterable[int]) -> Iterator[int]:
        for position in positions:
            if left[0] == 0:
                raise Broken
            left[0] = None if left[0] is None else left[0] - 1
            yield position

    writer = ShardWriter(Storage(str(out)), {"name": "both"}, 8 << 10)
    return convert(sets, writer, Linter(decode=False), shuffle=1, progress=progress)


def test_however_often_it_ends_the_set_and_its_counts_are_the_same(
    sets: dict[str, ConversationSource], tmp_path: Path
) -> None:
    whole = go(sets, tmp_path / "whole")
    assert {name: one.counts() for name, one in whole.items()} == {
        "good": {"read": 17, "written": 17, "skipped": {}},
        "bad": {"read": 12, "written": 10, "skipped": {"schema": 1, "path": 1}},
    }
    for stop in (5, 9, 8, 12):
        with pytest.raises(Broken):
            go(sets, tmp_path / "parts", stop)
    done = go(sets, tmp_path / "parts")
    assert {name: one.counts() for name, one in done.items()} == {name: one.counts() for name, one in whole.items()}
    assert done["good"].resumed > 0 and done["good"].report.read + done["good"].resumed == 17
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "parts" / file.name).read_bytes() == file.read_bytes()


def test_sets_that_grew_are_refused(sets: dict[str, ConversationSource], tmp_path: Path) -> None:
    with pytest.raises(Broken):
        go(sets, tmp_path / "out", 15)
    with pytest.raises(ValueError, match=r"found sets of \{'good': 17\} conversations; expected .* Fix: "):
        go({"good": sets["good"]}, tmp_path / "out")


def test_a_disk_that_cannot_be_written_ends_it(
    sets: dict[str, ConversationSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    go({"good": sets["good"]}, tmp_path / "before")
    monkeypatch.setattr("isthmus.data.streaming.storage.os.fsync", full)
    with pytest.raises(DataError, match=r"shards\.json: it can't be read or written \(OSError: .*No space left"):
        go(sets, tmp_path / "out")


def test_bad_bytes_are_skipped_and_counted_in_training(
    sets: dict[str, ConversationSource], collator: Collator, tmp_path: Path
) -> None:
    class Text(ConversationSource):
        name = "text"

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> object:  # type: ignore[override]
            return sets["good"][5 * (index % 4 // 2)]

    convert({"text": Text()}, ShardWriter(Storage(str(tmp_path / "s")), {}, 1), Linter(decode=False))
    source = Shards(str(tmp_path / "s"))
    shard = tmp_path / "s" / source.manifest.shards[2].name
    shard.write_bytes(shard.read_bytes().replace(b"number", b"mumber"))
    schedule = Mixture("one", {"text": 4}, {"text": 1.0}, 4, 1)
    loader = ConversationLoader(schedule, {"text": source}, collator, on_error="skip")
    assert len(next(iter(loader)).details) == 4 and loader.skipped == {"corrupt": 1}
    with pytest.raises(DataError, match=r"000002\.tar\[000000002\]: found \d+ bytes with another checksum"):
        list(ConversationLoader(schedule, {"text": source}, collator))
