"""Shards read as the files that they were made of, from every store, and faults that name the shard."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.streaming.shard_sets import plain, same, sharded

from isthmus.cache.media import content_key
from isthmus.data.conversations.schema import MediumItem
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.data.streaming import Shards
from isthmus.types import Modality


def media(source: ConversationSource) -> list[Any]:
    return [
        item.media
        for i in range(len(source))
        for message in source[i].messages
        for item in message.content
        if isinstance(item, MediumItem)
    ]


def test_shards_hold_what_the_files_held(files: JsonLines, whole: Path) -> None:
    source = Shards(str(whole))
    assert len(source.manifest.shards) > 3 and source.name == "set"
    assert same(source, files)
    assert source.where(22) == f"{whole}/{source.manifest.shards[-1].name}[000000022]"
    assert plain(source[-1]) == plain(source[22])


def test_labels_come_from_the_index(files: JsonLines, whole: Path) -> None:
    expected = ["text", "image", "video", "audio", "points"]
    assert list(Shards(str(whole)).labels()) == list(files.labels()) == [expected[i % 5] for i in range(23)]


def test_what_conversations_will_cost_comes_from_the_index(whole: Path) -> None:
    source = Shards(str(whole))
    assert [set(source.load(i)) for i in range(5)] == [{"positions"}, {"image"}, {"video"}, {"audio"}, {"points"}]
    assert source.load(5)["positions"] > 0


def test_a_cache_knows_a_medium_wherever_it_lies(files: JsonLines, whole: Path) -> None:
    limits = MediaLimits()
    keys = [[content_key(medium, limits) for medium in media(source)] for source in (files, Shards(str(whole)))]
    assert keys[0] == keys[1] and len(set(keys[0])) == 4
    with pytest.raises(DataError, match=r"0\.wav: found 172 bytes; expected at most 3"):
        [content_key(medium, MediaLimits(bytes=3)) for medium in media(Shards(str(whole)))[6:]]


@pytest.mark.parametrize("chain", ["file://{}", "simplecache::file://{}"])
def test_addresses_of_fsspec(files: JsonLines, whole: Path, chain: str) -> None:
    assert same(Shards(chain.format(whole)), files)


def test_an_object_store(files: JsonLines) -> None:
    """``memory://`` has the interface of S3 and its kin, and no renaming."""
    address = sharded(files, "memory://bucket/a set")
    assert same(Shards(address), files)
    pickled = pickle.dumps(Shards(address))
    assert not Shards(address).storage.is_local and same(pickle.loads(pickled), files)
    assert b"numpy" not in pickled  # the index is read where it is wanted
    again = sharded(files, "memory://bucket/again")
    assert Shards(again).storage.read("000001.tar") == Shards(address).storage.read("000001.tar"), "bytes are the same"


def test_copies_are_fetched_once_and_bounded(files: JsonLines, whole: Path, tmp_path: Path) -> None:
    source = Shards(f"file://{whole}", window=1, copies=tmp_path, keep=2)
    fetched = Counter[str]()
    fetch = source.storage.fetch
    source.storage.fetch = lambda name, target: (fetched.update([name]), fetch(name, target))[1]  # type: ignore[method-assign]
    assert same(source, files)
    (folder,) = tmp_path.iterdir()
    assert fetched == {shard.name: 1 for shard in source.manifest.shards}
    assert sorted(path.name for path in folder.glob("*.tar")) == [s.name for s in source.manifest.shards[-2:]]
    assert not list(folder.glob("*.partial"))
    with pytest.raises(
        ValueError, match=r"keep: found 2 of \d+ shards with a window of 2; expected at least 4, two windows"
    ):
        Shards(str(whole), window=2, copies=tmp_path, keep=2)
    with pytest.raises(ValueError, match=r"expected at least \d+, two windows or all"):
        Shards(str(whole), copies=tmp_path, keep=3)
    with pytest.raises(ValueError, match="window: found 0"):
        Shards(str(whole), window=0)


def test_webdataset_reads_the_same(files: JsonLines, whole: Path) -> None:
    import webdataset

    shards = sorted(map(str, whole.glob("*.tar")))
    found = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    source = Shards(str(whole))
    assert len(found) == len(source)
    for i, sample in enumerate(found):
        assert sample["__key__"] == f"{i:09d}"
        told = json.loads(sample["json"])
        assert told["details"] == source[i].details
        stored = [item.media for m in source[i].messages for item in m.content if isinstance(item, MediumItem)]
        others = [sample[key] for key in sorted(sample) if key not in ("json", "__key__", "__url__", "__local_path__")]
        assert others == [file.data for file in stored if isinstance(file, StoredFile)]


def test_unpacked_it_is_a_set_of_files(files: JsonLines, whole: Path, tmp_path: Path) -> None:
    for shard in sorted(whole.glob("*.tar")):
        with tarfile.open(shard) as archive:
            archive.extractall(tmp_path, filter="data")
    lines = [path.read_text(encoding="utf-8") + "\n" for path in sorted(tmp_path.glob("?????????.json"))]
    (tmp_path / "all.jsonl").write_text("".join(lines), encoding="utf-8")
    assert same(JsonLines(tmp_path / "all.jsonl"), files)


@pytest.fixture
def broken(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "set"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: cut(folder / "000001.tar"), r"000001\.tar: found \d+ bytes; expected a shard of \d+ bytes"),
        (lambda folder: (folder / "000002.tar").unlink(), r"000002\.tar: found no file; expected a shard"),
        (lambda folder: cut(folder / "index.npy"), r"index\.npy: found no whole index"),
        (lambda folder: (folder / "index.npy").unlink(), r"index\.npy: found no whole index"),
        (lambda folder: cut(folder / "shards.json"), r"shards\.json: found no description of shards"),
        (lambda folder: (folder / "shards.json").unlink(), r"found no shards\.json"),
        (lambda folder: rewrite(folder / "shards.json", complete=False), "found an unfinished conversion"),
        (lambda folder: rewrite(folder / "shards.json", version=2), "version 2"),
        (
            lambda folder: rewrite(
                folder / "shards.json", shards=[{"name": "../a.tar", "bytes": 1, "conversations": 1}]
            ),
            "a shard's name leads elsewhere",
        ),
    ],
    ids=range(9),
)
def test_a_damaged_set_is_one_error(broken: Path, damage: Any, said: str) -> None:
    damage(broken)
    with pytest.raises(ValueError, match=said) as caught:
        Shards(str(broken))
    assert "Fix: " in str(caught.value)


def test_an_index_of_objects_is_not_unpickled(broken: Path) -> None:
    from isthmus.data.streaming.layout import _digest

    np.save(broken / "index.npy", np.array([print], dtype=object), allow_pickle=True)
    rewrite(broken / "shards.json", index=_digest((broken / "index.npy").read_bytes()))
    with pytest.raises(ValueError, match=r"index\.npy: found no whole index .*allow_pickle=False"):
        Shards(str(broken))


def test_a_flipped_bit_is_a_fault_of_its_conversation(broken: Path, files: JsonLines) -> None:
    shard = broken / "000001.tar"
    data = bytearray(shard.read_bytes())
    data[1500] ^= 4
    shard.write_bytes(data)
    source = Shards(str(broken))
    first = source.manifest.shards[0].conversations
    with pytest.raises(DataError, match=rf"000001\.tar\[{first:09d}\]: found \d+ bytes with another") as caught:
        source[first]
    assert caught.value.fault is Fault.CORRUPT
    assert plain(source[first + 1]) == plain(files[first + 1])
    shard.write_bytes(b"")  # after it was opened
    with pytest.raises(DataError, match=r"found 0 bytes with another checksum"):
        source[first + 1]
    os.remove(shard)
    with pytest.raises(DataError, match=r"000001\.tar: it can't be read"):
        source[first + 1]


def test_limits_hold_before_anything_is_read(whole: Path) -> None:
    source = Shards(str(whole), limits=MediaLimits(bytes=100))
    with pytest.raises(DataError, match=r"000000\.tar\[000000000\]: found \d+ bytes; expected at most 100"):
        source[0]


def test_a_medium_that_cannot_be_decoded_is_named_by_its_shard() -> None:
    file = StoredFile("set/000003.tar[000000123]: 000000123.0.png", b"no picture")
    with pytest.raises(DataError, match=r"^set/000003\.tar\[000000123\]: 000000123\.0\.png: found no readable image"):
        read_media(file, Modality.IMAGE)


def test_an_address_that_nothing_serves() -> None:
    with pytest.raises(ValueError, match=r"warp://a: found an address that can't be opened .* Fix: "):
        Shards("warp://a/")
