"""A conversation over several turns, and what of it is written to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.backbones.base import Sampling
from isthmus.data.conversations.schema import parse_conversation
from isthmus.data.media.files import read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.reply_files import as_content
from isthmus.inference.pipeline import Pipeline
from isthmus.inference.printable import printable
from isthmus.inference.session import Session
from isthmus.model import Reply
from isthmus.model.memory import Memory
from isthmus.types import Media, Modality


class Recorder:
    """Stands between a session and its pipeline, and keeps what was asked."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.sampling = Sampling(max_new_tokens=6, seed=40)
        self.outputs = pipeline.outputs
        self.asked: list[tuple[list[Any], Any, int | None]] = []

    def __call__(
        self,
        requests: Sequence[Any],
        require: Sequence[Sequence[str]] | None = None,
        seed: int | None = None,
        memory: Memory | None = None,
    ) -> list[Reply]:
        self.asked.append((list(requests[0]), require, seed))
        return self.pipeline(requests, require, seed, memory)


def test_turns_go_back_in_as_they_were(opened: Pipeline, files: dict[str, Path]) -> None:
    recorder = Recorder(opened)
    session = Session(recorder)
    first = session.say(
        [{"type": "image", "image": str(files["image"])}, {"type": "text", "text": "hear it"}], ["audio"]
    )
    files["image"].unlink()  # decoded once: later turns don't need the file
    second = session.say("and now draw it", ["image"])
    messages, require, _ = recorder.asked[1]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert isinstance(messages[0]["content"][0]["image"], Media)
    assert messages[1]["content"][-1]["audio"] is first.media(Modality.AUDIO)[0]
    assert require == [["image"]] and [seed for _, _, seed in recorder.asked] == [40, 41]
    assert second.media(Modality.IMAGE) and len(session.messages) == 4
    session.reset()
    session.say("hello")
    assert recorder.asked[2][0] == [{"role": "user", "content": "hello"}] and recorder.asked[2][2] == 40


def test_a_failed_turn_changes_nothing(opened: Pipeline, tmp_path: Path) -> None:
    session = opened.session()
    session.say("hello")
    before = list(session.messages)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for content, message in [
        ([{"type": "image", "image": tmp_path / "none.png"}], "no file at"),
        ([{"type": "image", "image": broken}], "broken.png"),
        ([{"type": "scent", "scent": "rose"}], "found 'scent'"),
        ("word " * 400, "in its last turn alone; expected at most"),
    ]:
        with pytest.raises(ValueError, match=message):
            session.say(content)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="points is required"):
        session.say("hello", ["points"])
    assert session.messages == before


def test_limits_hold_for_a_users_files(opened: Pipeline, files: dict[str, Path]) -> None:
    session = Session(opened, MediaLimits(pixels=100))
    with pytest.raises(ValueError, match="pixels; expected at most 100"):
        session.say([{"type": "image", "image": files["image"]}])


def test_a_saved_conversation_is_one_that_can_be_read(opened: Pipeline, files: dict[str, Path], tmp_path: Path) -> None:
    session = opened.session()
    session.say([{"type": kind, kind: path} for kind, path in files.items()], ["image", "audio"])
    session.say("more", ["video"])
    path = session.save(tmp_path / "saved")
    raw = json.loads(path.read_text())
    conversation = parse_conversation(raw, root=tmp_path / "saved", captions_required=False)
    assert [len(message.content) for message in conversation.messages] == [4, 3, 1, 2]
    made = session.messages[1]["content"]
    saved = read_media(tmp_path / "saved" / raw["messages"][1]["content"][1]["image"], Modality.IMAGE)
    np.testing.assert_array_equal(saved.array, made[1]["image"].array)


def test_a_reply_as_files(tmp_path: Path) -> None:
    image = Media(Modality.IMAGE, np.full((4, 4, 3), 9, np.uint8))
    sound = Media(Modality.AUDIO, np.zeros(800, np.float32), 8000.0)
    reply = Reply(["here: ", image, "and", sound], forced=[Modality.AUDIO], ended="length", tokens=9)
    paths = reply.save(tmp_path / "out")
    assert [path.name for path in paths] == ["1_image.png", "3_audio.wav"] and all(path.is_file() for path in paths)
    record = json.loads((tmp_path / "out" / "reply.json").read_text())
    assert record == {
        "content": [
            {"type": "text", "text": "here: "},
            {"type": "image", "image": "1_image.png"},
            {"type": "text", "text": "and"},
            {"type": "audio", "audio": "3_audio.wav"},
        ],
        "forced": ["audio"],
        "ended": "length",
        "tokens": 9,
        "left_out": 0,
    }
    assert as_content([]) == [{"type": "text", "text": ""}]


def reply_of(shade: int) -> Reply:
    return Reply(["here", Media(Modality.IMAGE, np.full((4, 4, 3), shade, np.uint8))])


def test_an_earlier_reply_in_the_folder_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "003_1_image.png").write_bytes(b"somebody's")
    for shade in (1, 2, 3):
        reply_of(shade).save(tmp_path)
    for name, shade in (("reply-001", 1), ("reply-002", 2), ("reply", 3)):
        record = json.loads((tmp_path / f"{name}.json").read_text())
        picture = tmp_path / record["content"][1]["image"]
        assert read_media(picture, Modality.IMAGE).array.flat[0] == shade
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "002_1_image.png",
        "003_1_image-002.png",
        "003_1_image.png",
        "1_image.png",
    ]
    assert (tmp_path / "003_1_image.png").read_bytes() == b"somebody's" and not list(tmp_path.glob(".*"))


def test_a_medium_that_can_not_be_written_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.data.media.images.files.write_image", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reply_of(1).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_saving_replaces_its_own_conversation_alone(opened: Pipeline, files: dict[str, Path], tmp_path: Path) -> None:
    first, second = opened.session(), opened.session()
    first.say([{"type": "image", "image": files["image"]}], ["image"])
    path = first.save(tmp_path / "saved")
    before = {file.name: file.read_bytes() for file in path.parent.glob("*.png")}
    first.say("more", ["image"])
    assert first.save(tmp_path / "saved") == path and len(json.loads(path.read_text())["messages"]) == 4
    assert len(list(path.parent.glob("*.png"))) == len(before) + 1, "what was written isn't written again"
    second.say("other", ["image"])
    other = second.save(tmp_path / "saved")
    assert other.name == "conversation-002.json" and len(json.loads(other.read_text())["messages"]) == 2
    first.reset()
    first.say("anew", ["image"])
    assert first.save(tmp_path / "saved").name == "conversation-003.json"
    assert all((path.parent / name).read_bytes() == held for name, held in before.items())
    for saved in path.parent.glob("*.json"):
        parse_conversation(json.loads(saved.read_text()), root=path.parent, captions_required=False)


def test_what_a_terminal_is_given() -> None:
    assert printable(" a\x1b[31m red\x07 séven\n\x00") == "a[31m red séven"
    assert printable("10\u00a0km\u3000long\u2028and \u202eturned") == "10 km long\nand turned"
    assert (
        printable("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
        == "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    ), "a joiner is spelling"
