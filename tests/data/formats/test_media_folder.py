"""Folders of media, with a table of captions or a folder a class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from data.formats.tables import picture, plain

from isthmus.data.errors import DataError
from isthmus.data.formats import MediaFolder


def folder(path: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        data = "".join(json.dumps(row) + "\n" for row in content) if isinstance(content, list) else content
        (path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_tables_name_captioned_media(tmp_path: Path, ending: str) -> None:
    rows = [{"file_name": f"{'sub/' if i else ''}{i}.png", "text": f"cat {i}"} for i in range(2)]
    lines = ["file_name,text", *(",".join(row.values()) for row in rows)]
    table: Any = rows if ending == "jsonl" else "\n".join(lines)
    files = {f"{split}/{name}": picture(0) for split in ("train", "test") for name in ("0.png", "sub/1.png")}
    place = folder(tmp_path / "photos", files | {f"{split}/metadata.{ending}": table for split in ("train", "test")})
    source = MediaFolder(place, splits=["train"])
    assert len(MediaFolder(place)) == 4 and len(source) == 2
    said = plain(source[1])
    assert said[0][1][0] == ("image", place / "train/sub/1.png", None) and said[1] == ("assistant", ["cat 1"])
    assert source[1].details == {"text": "cat 1", "split": "train", "caption": "cat 1", "modality": "image"}
    assert source.where(1) == f"{place}/train/metadata.{ending}:{2 if ending == 'jsonl' else 3}"
    theirs = datasets.load_dataset("imagefolder", data_dir=str(place), cache_dir=str(tmp_path / "cache"), split="train")
    assert [row["text"] for row in theirs] == [source[i].details["text"] for i in range(2)]


def test_rows_may_name_several_media_and_a_dialogue(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "<image> or <image>?"}, {"role": "assistant", "content": "Both."}]
    rows = [
        {"file_names": ["a.png", "b.png"], "messages": turns},
        {"image_file_name": "a.png", "question": "What?", "answer": "a cat"},
        {"file_name": "a.wav", "transcription": "rain", "speaker": None},
        {"file_name": "../a.png", "text": "x"},
        {"file_name": "a.xyz", "text": "x"},
        {"text": "x"},
    ]
    place = folder(tmp_path / "set", {"metadata.jsonl": rows, "a.png": b"x", "b.png": b"x", "a.wav": b"x"})
    source = MediaFolder(place)
    images = [("image", place / name, None) for name in ("a.png", "b.png")]
    assert plain(source[0]) == [("user", [images[0], " or ", images[1], "?"]), ("assistant", ["Both."])]
    assert plain(source[1]) == [("user", [images[0], "What?"]), ("assistant", ["a cat"])]
    assert source[2].details == {"transcription": "rain", "caption": "rain", "modality": "audio"}
    for index, says in (
        (3, "leads outside"),
        (4, "found 'a.xyz'; expected a medium"),
        (5, "expected file_name"),
    ):
        with pytest.raises(DataError, match=rf"metadata\.jsonl:{index + 1}") as caught:
            source[index]
        assert says in str(caught.value)


def test_a_folder_a_class(tmp_path: Path) -> None:
    names = [
        "train/cat/2.png",
        "train/cat/10.png",
        "train/dog/1.jpg",
        "val/cat/1.png",
        "train/cat/.h.png",
        "notes.txt",
    ]
    place = folder(tmp_path / "animals", {name: picture(0) for name in names})
    source = MediaFolder(place, direction="draw", draw=["{caption}"])
    assert [source[i].details["id"] for i in range(4)] == sorted(names[:4])
    assert plain(source[2]) == [("user", ["dog"]), ("assistant", [("image", place / "train/dog/1.jpg", "dog")])]
    known = {"label": "dog", "id": "train/dog/1.jpg", "split": "train"}
    assert source[2].details == {**known, "caption": "dog", "modality": "image"}
    assert len(MediaFolder(place, splits=["validation"])) == 1
    flat = MediaFolder(folder(tmp_path / "flat", {"train/1.png": b"x"}))
    with pytest.raises(DataError, match=r"1\.png: found neither a caption nor a class's folder"):
        flat[0]
    with pytest.raises(ValueError, match="found no record of which 'split' is test"):
        MediaFolder(place, splits=["test"])
    with pytest.raises(ValueError, match="nor media; expected one of them"):
        MediaFolder(folder(tmp_path / "none", {"a.txt": "x"}))
    with pytest.raises(ValueError, match="found no folder; expected one of media"):
        MediaFolder(tmp_path / "absent")


def test_no_picture_is_left_out_for_its_name(tmp_path: Path) -> None:
    """The library of Hugging Face keeps tables under such names, and no media."""
    place = folder(tmp_path / "set", {"cat/cache-1.png": picture(0), "cat/1.png": picture(1), "cat/.hidden.png": b""})
    assert [MediaFolder(place)[index].details["id"] for index in range(len(MediaFolder(place)))] == [
        "cat/1.png",
        "cat/cache-1.png",
    ]
