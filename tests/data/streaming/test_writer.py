"""Writing shards: sizes, the same bytes each time, and what is found in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.streaming.shard_sets import same, sharded

from isthmus.data.conversations.sources import JsonLines
from isthmus.data.media.limits import MediaLimits
from isthmus.data.streaming import Shards
from isthmus.data.streaming.records import as_record
from isthmus.data.streaming.storage import Storage
from isthmus.data.streaming.writer import ShardWriter


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_keep_to_their_size(files: JsonLines, tmp_path: Path) -> None:
    sharded(files, str(tmp_path / "a"), largest=20_000)
    source = Shards(str(tmp_path / "a"))
    sizes = [shard.bytes for shard in source.manifest.shards]
    assert 1 < len(sizes) < 10 and max(sizes) <= 20_000 + 1024
    assert all((tmp_path / "a" / s.name).stat().st_size == s.bytes for s in source.manifest.shards)
    sharded(files, str(tmp_path / "b"), largest=1)
    assert [shard.conversations for shard in Shards(str(tmp_path / "b")).manifest.shards] == [1] * 23


def test_the_same_set_gives_the_same_bytes(files: JsonLines, whole: Path, tmp_path: Path) -> None:
    sharded(files, str(tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(whole)


@pytest.mark.parametrize("ended", [0, 1, 9, 22])
def test_what_is_broken_off_goes_on_and_never_reads_as_whole(
    files: JsonLines, whole: Path, tmp_path: Path, ended: int
) -> None:
    """Each conversation is marked after it was added; the second run goes on after the last one in a whole shard."""
    folder = tmp_path / "set"

    def write(begin: int, end: int, writer: ShardWriter) -> None:
        for index in range(begin, end):
            writer.add(as_record(files[index], "", MediaLimits()))
            writer.mark({"next": index + 1})

    write(0, ended, ShardWriter(Storage(str(folder)), {"name": "test"}, 8 << 10))  # and dies
    (folder / "shards.json.partial").write_bytes(b"{")
    with pytest.raises(ValueError, match="found an unfinished conversion"):
        Shards(str(folder))
    second = ShardWriter(Storage(str(folder)), {"name": "test"}, 8 << 10)
    begin = second.progress.get("next", 0)
    assert begin == sum(shard.conversations for shard in second.manifest.shards) <= ended
    write(begin, 23, second)
    second.finish()
    assert same(Shards(str(folder)), files)
    made, expected = contents(folder), contents(whole)
    assert {name: made[name] for name in expected if name != "shards.json"} == {
        name: data for name, data in expected.items() if name != "shards.json"
    }


def test_a_lost_index_is_made_again(files: JsonLines, tmp_path: Path) -> None:
    address = sharded(files, str(tmp_path / "set"))
    index = tmp_path / "set" / "index.npy"
    before = index.read_bytes()
    index.unlink()
    again = ShardWriter(Storage(address), {"name": "test"}, 8 << 10)
    assert again.is_unfinished
    again.finish()
    assert index.read_bytes() == before and same(Shards(address), files)


def test_other_folders_are_left_alone(files: JsonLines, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "000000.tar").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"found 000000\.tar; expected an empty folder"):
        ShardWriter(Storage(str(tmp_path)), {})
    with pytest.raises(ValueError, match=r"found shards of \{'name': 'test'.*expected an empty folder, or shards of"):
        ShardWriter(Storage(str(whole)), {"name": "other"}, 8 << 10)
    with pytest.raises(ValueError, match="largest: found 0"):
        ShardWriter(Storage(str(tmp_path / "new")), {}, 0)
    assert (tmp_path / "000000.tar").read_bytes() == b"mine" and not (tmp_path / "new").exists()


def test_a_finished_shard_that_was_damaged_is_told(files: JsonLines, tmp_path: Path) -> None:
    address = sharded(files, str(tmp_path / "set"))
    told = json.loads((tmp_path / "set" / "shards.json").read_text(encoding="utf-8"))
    (tmp_path / "set" / "shards.json").write_text(json.dumps(told | {"complete": False}), encoding="utf-8")
    shard = tmp_path / "set" / "000000.tar"
    shard.write_bytes(b"\1" * shard.stat().st_size)
    with pytest.raises(ValueError, match=r"000000\.tar: found .* Fix: "):
        ShardWriter(Storage(address), {"name": "test"}, 8 << 10)
