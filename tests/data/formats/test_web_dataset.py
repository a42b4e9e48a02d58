"""Plain tar archives: which files belong together, what a sample becomes, and what is done with damaged ones."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import webdataset
from data.formats.tables import picture, plain, sound, stored

from isthmus.data.errors import DataError
from isthmus.data.formats import WebDataset

JPG, PNG = picture(1, "jpg"), picture(2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def archive(path: Path, files: dict[str, bytes | str], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            content = data.encode() if isinstance(data, str) else data
            head = tarfile.TarInfo(name)
            head.size = len(content)
            tar.addfile(head, io.BytesIO(content))
    return path


def samples(source: WebDataset) -> list[list[Any]]:
    """The files' names and the words of each sample."""
    return [
        [sorted(str(file).rpartition(": ")[2] for file in stored(source, i)), source[i].details["caption"]]
        for i in range(len(source))
    ]


def test_what_img2dataset_writes(tmp_path: Path) -> None:
    told = {
        "caption": "a cat",
        "url": "http://x/1.jpg",
        "key": "000000001",
        "status": "success",
        "exif": "{}",
        "n": None,
    }
    files = {"000000001.jpg": JPG, "000000001.json": json.dumps(told), "000000001.txt": "a cat"}
    source = WebDataset(archive(tmp_path / "00000.tar", files))
    assert plain(source[0])[0] == ("user", [("image", JPG, None), plain(source[0])[0][1][1]])
    assert plain(source[0])[1] == ("assistant", ["a cat"])
    expected = {key: value for key, value in told.items() if value is not None} | {"txt": "a cat", "modality": "image"}
    assert source[0].details == {**expected, "id": "000000001"}
    assert source.where(0) == f"{tmp_path}/00000.tar[0]" and list(source.labels()) == ["image"]
    drawn = WebDataset(tmp_path / "00000.tar", direction="draw", draw=["{caption}"])
    assert plain(drawn[0])[1] == ("assistant", [("image", JPG, "a cat")])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_of_one_name_belong_together(tmp_path: Path, form: int) -> None:
    """In any order, with dots in folders, long names, and what is no part of a sample."""
    long = "d" * 60 + "/" + "f" * 90
    files: dict[str, bytes | str] = {"./a.b/0.jpg": JPG, "b/0.jpg": PNG, f"{long}.jpg": PNG, "._junk.jpg": b"x"}
    files |= {"README": "x", "./a.b/0.txt": "one", "b/0.txt": "two", f"{long}.txt": "three", "b/.hidden.txt": "x"}
    source = WebDataset(archive(tmp_path / "a.tar", files, form))
    assert samples(source) == [[["./a.b/0.jpg"], "one"], [["b/0.jpg"], "two"], [[f"{long}.jpg"], "three"]]


def test_the_first_dot_ends_a_key_unless_names_hold_dots(tmp_path: Path) -> None:
    files = {"0.jpg": JPG, "0.seg.png": PNG, "0.txt": "zero", "1.jpg": JPG, "1.seg.png": PNG, "1.txt": "one"}
    source = WebDataset(archive(tmp_path / "a.tar", files))
    assert samples(source) == [[["0.jpg"], "zero"], [["1.jpg"], "one"]]
    mask = WebDataset(tmp_path / "a.tar", columns={"image": "seg.png"})
    assert stored(mask, 1)[0].data == PNG
    theirs = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [one["__key__"] for one in theirs] == [source[i].details["id"] for i in range(2)]
    dotted = {"my.photo.1.jpg": JPG, "my.photo.1.txt": "one", "my.photo.2.jpg": PNG, "my.photo.2.txt": "two"}
    path = archive(tmp_path / "b.tar", dotted)
    assert samples(WebDataset(path)) == [[["my.photo.1.jpg"], "one"], [["my.photo.2.jpg"], "two"]]
    assert len(WebDataset(path, dots="first")) == 1
    several = {"0.1.jpg": JPG, "0.2.jpg": PNG, "0.10.jpg": JPG, "0.json": json.dumps({"question": "Q", "answer": "A"})}
    both = WebDataset(archive(tmp_path / "c.tar", several))
    assert len(both) == 1 and [one.data for one in stored(both, 0)] == [JPG, PNG, JPG]


def test_json_names_the_media_beside_it(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": [{"type": "image", "image": "0.a.png"}, {"type": "text", "text": "And this?"}]},
        {"role": "assistant", "content": "Rain."},
    ]
    files = {"s/0.json": json.dumps({"messages": turns}), "s/0.a.png": PNG, "s/0.b.wav": sound(0)}
    source = WebDataset(archive(tmp_path / "a.tar", files), columns={"messages": "messages"})
    assert plain(source[0]) == [("user", [("image", PNG, None), "And this?"]), ("assistant", ["Rain."])]
    test = json.dumps({"text": "two", "split": "test"})
    spoken = {"0.wav": sound(1), "0.json": test, "1.wav": sound(2), "1.txt": "x"}
    source = WebDataset(archive(tmp_path / "b.tar", spoken), splits=["test"])
    assert samples(source) == [[["0.wav"], "two"]]
    marked = {"0.png": PNG, "0.json": json.dumps({"conversations": [{"from": "human", "value": "<image>?"}]})}
    assert plain(WebDataset(archive(tmp_path / "c.tar", marked))[0]) == [("user", [("image", PNG, None), "?"])]


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.zst"])
def test_packed_archives_and_folders_of_archives(tmp_path: Path, ending: str) -> None:
    pack = (lambda data: pyarrow.compress(data, "zstd", asbytes=True)) if ending == "tar.zst" else gzip.compress
    for name in ("train-0000", "train-0001", "test-0000"):
        path = archive(tmp_path / "set" / f"{name}.tar", {"0.jpg": JPG, "0.txt.gz": gzip.compress(name.encode())})
        path.with_name(f"{name}.{ending}").write_bytes(pack(path.read_bytes()))
        path.unlink()
    source = WebDataset(tmp_path / "set")
    assert [one[1] for one in samples(source)] == ["test-0000", "train-0000", "train-0001"]
    assert source.where(1) == f"{tmp_path}/set/train-0000.{ending}[0]"
    assert len(WebDataset(tmp_path / "set", splits=["train"])) == 2
    assert len(WebDataset(f"{tmp_path}/set/train-{{0000..0001}}.{ending}")) == 2
    assert len(WebDataset(f"{tmp_path}/set/t*-0000.{ending}")) == 2
    travelled = pickle.dumps(source)
    assert len(travelled) < 3000 and samples(pickle.loads(travelled)) == samples(source)


def test_damage_is_told_by_archive_and_sample(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for i in range(3):
        files |= {f"{i}.jpg": JPG, f"{i}.txt": "x"}
    path = archive(tmp_path / "a.tar", files)
    path.write_bytes(path.read_bytes()[: 2 * 2560 + 900])
    source = WebDataset(path)
    assert len(source) == 3 and [one.data for one in stored(source, 0)] == [JPG]
    with pytest.raises(DataError, match=r"a\.tar\[2\]"):
        source[2]
    (tmp_path / "b.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(ValueError, match=r"b\.tar: found no tar archive"):
        WebDataset(tmp_path / "b.tar")
    with pytest.raises(ValueError, match="found no files in it"):
        WebDataset(archive(tmp_path / "c.tar", {"README": "x"}))
    with pytest.raises(ValueError, match=r"found no \.tar"):
        WebDataset(tmp_path / "absent")
    odd: dict[str, bytes | str] = {"0.jpg": JPG, "1.jpg": JPG, "1.txt": b"\xff\xfe", "2.jpg": JPG, "2.json": "{"}
    odd |= {"3.txt": "x", "4.jpg": JPG, "4.txt.gz": gzip.compress(b"x")[:-6]}
    odd |= {"5.jpg": JPG, "5.pyd": pickle.dumps(print)}
    source = WebDataset(archive(tmp_path / "d.tar", odd))
    expected = [
        "expected a dialogue",
        "aren't UTF-8",
        "no JSON",
        "no medium beside 'txt'",
        "cut off",
        "__key__, jpg",
    ]
    for index, says in enumerate(expected):
        with pytest.raises(DataError, match=rf"d\.tar\[{index}\]") as caught:
            source[index]
        assert says in str(caught.value)
