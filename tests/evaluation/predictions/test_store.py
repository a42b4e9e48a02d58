"""Answers come back from their folder as they were given, whatever ended the process that wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from killed import killed_at

from isthmus.evaluation.predictions.lines import read_lines
from isthmus.evaluation.predictions.store import AnswerStore, Place
from isthmus.modalities.shipped import DEPTH, IMU
from isthmus.model import Reply
from isthmus.types import Media, Modality


def every_medium() -> list[Media]:
    """One of each kind, odd sizes included."""
    random = np.random.default_rng(0)
    return [
        Media(Modality.IMAGE, random.integers(0, 256, (7, 5, 3), np.uint8)),
        Media(Modality.VIDEO, random.integers(0, 256, (3, 15, 17, 3), np.uint8), rate=8.0),
        Media(Modality.AUDIO, random.uniform(-1, 1, 321).astype(np.float32), rate=16_000.0),
        Media(Modality.POINTS, random.uniform(size=(9, 6)).astype(np.float32)),
        Media(DEPTH, random.uniform(0, 9, (4, 3)).astype(np.float32)),
        Media(IMU, random.normal(size=(6, 20)).astype(np.float32), rate=400.0),
    ]


def stored(folder: Path, places: list[Place], replies: list[Reply], rank: int = 0) -> AnswerStore:
    store = AnswerStore(folder, rank)
    store.mend()
    store.add([(place, "/".join(map(str, place)), "", each) for place, each in zip(places, replies, strict=True)])
    store.close()
    store.read()
    return store


def test_every_kind_of_medium_loses_nothing(tmp_path: Path) -> None:
    media = every_medium()
    reply = Reply(["first ", *media, "last"], [Modality.IMAGE], "length", 17, [1, 2], 3)
    found = stored(tmp_path, [("../odd name", 4)], [reply]).reply(("../odd name", 4))
    assert (found.content[0], found.content[-1], found.text) == ("first ", "last", "first last")
    assert (found.forced, found.ended, found.tokens, found.left_out) == ([Modality.IMAGE], "length", 17, 3)
    for one, other in zip(media, found.media(), strict=True):
        assert one.modality is other.modality and one.rate == other.rate
        assert one.array.dtype == other.array.dtype and np.array_equal(one.array, other.array), one.modality
    assert {path.resolve().parent.parent for path in tmp_path.rglob("*.png")} == {tmp_path / "media"}


def test_processes_write_files_of_their_own(tmp_path: Path) -> None:
    stored(tmp_path, [("cats", 0), ("cats", 2)], [Reply(["zero"]), Reply(["two"])])
    store = stored(tmp_path, [("cats", 1)], [Reply(["one"])], rank=1)
    assert {place[1]: answer.text for place, answer in store.found.items()} == {0: "zero", 1: "one", 2: "two"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers-0.jsonl", "answers-1.jsonl"]
    again = stored(tmp_path, [("cats", 3)], [Reply(["three"])])
    assert len(again.found) == 4 and again.has(("cats", 3)) and not again.has(("cats", 4))


@pytest.mark.parametrize("rest", [b'{"source": "cats", "ind', b"\0" * 40, b'{"source": "cats", "ind\n', b"\0\0\n"])
def test_an_unfinished_last_line_is_dropped(tmp_path: Path, rest: bytes) -> None:
    stored(tmp_path, [("cats", 0), ("cats", 1)], [Reply(["zero"]), Reply(["one"])])
    path = tmp_path / "answers-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    store = AnswerStore(tmp_path)
    assert store.mend() == 1 and path.read_bytes() == whole and store.mend() == 0
    store.read()
    assert len(store.found) == 2
    path.write_bytes(rest)
    assert store.mend() == 1 and path.read_bytes() == b""


def test_an_answer_whose_media_are_lost_is_given_again(tmp_path: Path) -> None:
    image, place = every_medium()[0], ("cats", 0)
    stored(tmp_path, [place], [Reply([image])])
    (file,) = tmp_path.rglob("*.png")
    file.write_bytes(b"")
    store = AnswerStore(tmp_path)
    store.read()
    assert not store.has(place)
    found = stored(tmp_path, [place], [Reply([image])]).reply(place)
    assert np.array_equal(found.media()[0].array, image.array)


def test_whatever_was_stored_before_a_kill_is_there(tmp_path: Path) -> None:
    def write() -> None:
        store = AnswerStore(tmp_path)
        store.mend()
        for number in range(4):
            store.add([(("cats", number), str(number), "", Reply([f"cat {number}", every_medium()[0]]))])

    assert killed_at(2, "fsync", write)
    store = AnswerStore(tmp_path)
    store.mend()
    store.read()
    assert [store.reply(place).text for place in sorted(store.found)] == ["cat 0", "cat 1", "cat 2"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("[1]", r"b'\[1\]'"),
        ("no", "no JSON"),
        ('{"text": "a cat"}', "the index None and the id None"),
        ('{"index": "0", "text": "a cat"}', "the index '0'"),
        ('{"index": 0}', "neither a list under content nor text"),
        ('{"index": 0, "text": "a", "content": []}', "content and text"),
        ('{"index": 0, "source": 3, "text": "a"}', "the source 3"),
        ('{"index": 0, "content": [{"type": "smell"}]}', r"content\[0\]: found the type 'smell'"),
        ('{"index": 0, "content": [{"type": "image", "image": 3}]}', "found '3' under image"),
    ],
)
def test_a_line_in_another_form_is_named(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "theirs.jsonl").write_text(f'\n{{"id": "x", "text": "a cat"}}\n{line}\n')
    with pytest.raises(ValueError, match=rf"theirs.jsonl:3.*{found}.*Fix: correct the line"):
        read_lines(tmp_path)


def test_others_answers_in_a_runs_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs.jsonl").write_text(json.dumps({"id": "x", "text": "a cat"}) + "\n")
    with pytest.raises(ValueError, match=r"theirs.jsonl:1: found an answer without source and index.*Fix"):
        AnswerStore(tmp_path).read()
