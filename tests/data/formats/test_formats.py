"""Each format by a small sample: what it becomes, and what is said where a field is missing or wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from isthmus.data import formats
from isthmus.data.conversations.schema import Conversation, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError, Fault
from isthmus.data.formats import (
    CC3M,
    MMC4,
    Alpaca,
    AudioCaps,
    Cap3D,
    CaptionTable,
    Llava,
    NextGPTInstructions,
    NextGPTPairs,
    Obelics,
    ShareGPT,
    VideoChat,
    WebVid,
)
from isthmus.data.formats.captions import Captions, instructions
from isthmus.types import MEDIA, Modality

HUMAN, GPT = {"from": "human"}, {"from": "gpt"}
MEDIA_FILES = ("1.jpg", "2.jpg", "1.wav", "1.mp4", "1.ply", "000000001.jpg", "a/7.mp4", "7.wav")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in MEDIA_FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def lines(folder: Path, *records: Any, name: str = "set.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def plain(conversation: Conversation) -> list[Any]:
    """Turns as (role, pieces): texts as they are, media as (modality, file's name, caption)."""
    return [
        (
            message.role,
            [
                item.text
                if isinstance(item, TextItem)
                else (str(item.modality), item.media and Path(str(item.media)).name, item.caption)
                for item in message.content
            ],
        )
        for message in conversation.messages
    ]


SAMPLES: list[tuple[type[ConversationSource], Any, list[Any]]] = [
    (
        NextGPTPairs,
        {"input_image": "1.jpg", "conversations": [HUMAN | {"value": "<image>\nWhat?"}, GPT | {"value": "A cat."}]},
        [("user", [("image", "1.jpg", None), "What?"]), ("assistant", ["A cat."])],
    ),
    (
        NextGPTPairs,
        {
            "output_audio": "1.wav",
            "audio_captions": "rain",
            "conversations": [HUMAN | {"value": "play rain"}, GPT | {"value": "Here: <audio> Enjoy."}],
        },
        [("user", ["play rain"]), ("assistant", ["Here: ", ("audio", "1.wav", "rain"), " Enjoy."])],
    ),
    (
        NextGPTInstructions,
        {
            "mm_name": "1.jpg",
            "conversation": [
                HUMAN | {"value": "what?", "input_modality": "image"},
                GPT | {"value": "a cat", "caption": "", "output_modality": "text"},
                HUMAN | {"value": "sure?", "input_modality": "image"},
                GPT | {"value": "yes", "output_modality": "text"},
            ],
        },
        [
            ("user", [("image", "1.jpg", None), "what?"]),
            ("assistant", ["a cat"]),
            ("user", ["sure?"]),
            ("assistant", ["yes"]),
        ],
    ),
    (
        NextGPTInstructions,
        {
            "mm_name": "1.mp4",
            "conversation": [
                HUMAN | {"value": "show it", "input_modality": "text"},
                GPT | {"value": "here", "caption": "a man runs", "output_modality": "video"},
            ],
        },
        [("user", ["show it"]), ("assistant", ["here", ("video", "1.mp4", "a man runs")])],
    ),
    (
        NextGPTInstructions,
        {
            "image_captions": ["a cat", "a dog"],
            "image_caption_embeddings": ["it_img_0.jpg.npy", "it_img_1.jpg.npy"],
            "conversations": [HUMAN | {"value": "draw"}, GPT | {"value": "One <image> and <image>"}],
        },
        [
            ("user", ["draw"]),
            ("assistant", ["One ", ("image", None, "a cat"), " and ", ("image", None, "a dog")]),
        ],
    ),
    (
        NextGPTInstructions,
        {
            "image_list": [{"image_name": "2.jpg", "caption": "a paw"}],
            "video_list": [],
            "audio_list": [{"audio_name": "1.wav", "caption": "rain"}],
            "conversation": [
                HUMAN | {"value": "Hear <Audio>1.wav</Audio> this"},
                GPT | {"value": "And see <Image>2.jpg</Image>"},
            ],
        },
        [
            ("user", ["Hear ", ("audio", "1.wav", None), " this"]),
            ("assistant", ["And see ", ("image", "2.jpg", "a paw")]),
        ],
    ),
    (
        ShareGPT,
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "who?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "me"}]},
            ],
            "images": ["1.jpg"],
        },
        [("user", [("image", "1.jpg", None), "who?"]), ("assistant", ["me"])],
    ),
    (
        Llava,
        {
            "id": "7",
            "image": "1.jpg",
            "conversations": [HUMAN | {"value": "What?\n<image>"}, GPT | {"value": "An <image> tag."}],
        },
        [("user", ["What?", ("image", "1.jpg", None)]), ("assistant", ["An <image> tag."])],
    ),
    (
        Llava,
        {"image": ["1.jpg", "2.jpg"], "conversations": [HUMAN | {"value": "Both?"}, GPT | {"value": "Cats."}]},
        [("user", [("image", "1.jpg", None), ("image", "2.jpg", None), "Both?"]), ("assistant", ["Cats."])],
    ),
    (
        VideoChat,
        {"video": "1.mp4", "QA": [{"i": "Look.", "q": "What?", "a": "A man."}, {"q": "Where?", "a": "Here."}]},
        [
            ("user", [("video", "1.mp4", None), "Look. What?"]),
            ("assistant", ["A man."]),
            ("user", ["Where?"]),
            ("assistant", ["Here."]),
        ],
    ),
    (
        Alpaca,
        {"instruction": "Translate <video>.", "input": "le chat", "output": "the cat", "history": [["hi", "hello"]]},
        [
            ("user", ["hi"]),
            ("assistant", ["hello"]),
            ("user", ["Translate <video>.\n\nle chat"]),
            ("assistant", ["the cat"]),
        ],
    ),
    (
        ShareGPT,
        {
            "conversations": [
                {"from": "system", "value": "Be kind."},
                HUMAN | {"value": "<points>?"},
                GPT | {"value": "!"},
            ],
            "points": ["1.ply"],
        },
        [("system", ["Be kind."]), ("user", [("points", "1.ply", None), "?"]), ("assistant", ["!"])],
    ),
    (
        MMC4,
        {
            "text_list": ["Intro.", "A cat.", "It sleeps.", "A dog."],
            "image_info": [
                {"image_name": "2.jpg", "matched_text_index": 3},
                {"image_name": "1.jpg", "matched_text_index": 1},
            ],
        },
        [
            ("user", ["Intro.", ("image", "1.jpg", None)]),
            ("assistant", ["A cat.\nIt sleeps."]),
            ("user", [("image", "2.jpg", None)]),
            ("assistant", ["A dog."]),
        ],
    ),
    (
        Obelics,
        {"images": ["1.jpg", None, "2.jpg"], "texts": [None, "A cat.", None]},
        [("user", [("image", "1.jpg", None)]), ("assistant", ["A cat."])],
    ),
]


@pytest.mark.parametrize(("form", "record", "expected"), SAMPLES)
@pytest.mark.parametrize("array", [True, False])
def test_a_sample_of_each_format(folder: Path, array: bool, form: Any, record: Any, expected: list[Any]) -> None:
    path = lines(folder, [record, record]) if array else lines(folder, record, record)
    source = form(path)
    assert len(source) == 2 and plain(source[0]) == plain(source[1]) == expected


TABLES: list[tuple[Any, str, str, str]] = [
    (CC3M, 'first\thttp://a\na "cat\thttp://b\n', "000000001.jpg", 'a "cat'),
    (
        WebVid,
        "videoid,name,page_idx,page_dir,duration,contentUrl\n7,a cat,1,a,PT1S,x\n7,a cat,1,a,PT1S,x\n",
        "7.mp4",
        "a cat",
    ),
    (AudioCaps, 'audiocap_id,youtube_id,start_time,caption\n7,x,0,"a, b"\n7,x,0,"a, b"\n', "7.wav", "a, b"),
    (Cap3D, '1,"a chair, red"\n1,"a chair, red"\n', "1.ply", "a chair, red"),
]


@pytest.mark.parametrize(("form", "record", "expected"), SAMPLES)
def test_media_are_known_without_their_files(tmp_path: Path, form: Any, record: Any, expected: list[Any]) -> None:
    held = {piece[0] for _, pieces in expected for piece in pieces if isinstance(piece, tuple)}
    assert form(lines(tmp_path, record)).media_in(0) == held


@pytest.mark.parametrize(("form", "text", "name", "caption"), TABLES)
def test_tables_of_captions_go_both_ways(folder: Path, form: Any, text: str, name: str, caption: str) -> None:
    path = folder / "table"
    path.write_text(text, encoding="utf-8")
    (_, asked), (_, said) = plain(form(path)[1])
    assert asked[0][1:] == (name, None) and said == [caption]
    (_, asked), (_, made) = plain(form(path, direction="draw")[1])
    assert caption in asked[0] and made[0][1:] == (name, caption)
    own = form(path, direction="draw", draw=["Now {caption}!"], target_files=False)[1]
    assert plain(own) == [("user", [f"Now {caption}!"]), ("assistant", [(made[0][0], None, caption)])]


@pytest.mark.parametrize(("form", "text"), [table[:2] for table in TABLES])
def test_media_of_tables_are_known_without_their_files(tmp_path: Path, form: Any, text: str) -> None:
    (tmp_path / "table").write_text(text, encoding="utf-8")
    source = form(tmp_path / "table", root=tmp_path)
    assert set(source.labels()) == {str(source.modality)}


def test_columns_are_checked_at_once(folder: Path) -> None:
    path = folder / "table.csv"
    path.write_text("file,words\n1.jpg,a cat\n", encoding="utf-8")
    source = CaptionTable(path, Modality.IMAGE, "{file}", caption="words")
    assert plain(source[0])[1] == ("assistant", ["a cat"])
    for options in ({"file": "{name}.jpg", "caption": "words"}, {"file": "{file}", "caption": "text"}):
        with pytest.raises(ValueError, match="found the columns file, words"):
            CaptionTable(path, Modality.IMAGE, **options)


@pytest.mark.parametrize("modality", MEDIA)
def test_instructions_are_chosen_by_the_index_alone(modality: Modality) -> None:
    options = Captions("both", seed=3)
    chosen = [options.chat(modality, "1.jpg", "a cat", i, "here")["messages"] for i in range(200)]
    assert chosen == [
        Captions("both", seed=3).chat(modality, "1.jpg", "a cat", i, "here")["messages"] for i in range(200)
    ]
    made = [messages for messages in chosen if messages[1]["content"][0]["type"] == modality]
    assert 70 < len(made) < 130
    assert {messages[0]["content"][0]["text"] for messages in made} == {
        instruction.replace("{caption}", "a cat") for instruction in instructions(modality, "draw")
    }
    assert chosen != [
        Captions("both", seed=4).chat(modality, "1.jpg", "a cat", i, "here")["messages"] for i in range(200)
    ]


FAULTS: list[tuple[Any, Any, str]] = [
    (NextGPTPairs, {"image_name": "1.jpg"}, "found the fields image_name; expected caption"),
    (NextGPTPairs, {"image_name": "1.jpg", "caption": " "}, "caption: found no words"),
    (NextGPTPairs, {"image_name": "1.jpg", "caption": 3.5, "id": []}, "id: found list"),
    (NextGPTPairs, {"name": "1.jpg", "caption": "a"}, "expected image_name, video_name or audio_name"),
    (NextGPTPairs, {"output_image": "1.jpg", "conversations": [GPT | {"value": "x"}]}, "1 of output_image and 0 of"),
    (NextGPTPairs, {"input_image": "../x.jpg", "conversations": [HUMAN | {"value": "<image>"}]}, "leads outside"),
    (NextGPTPairs, {"image_name": "https://a/b.jpg", "caption": "a"}, "URL"),
    (
        NextGPTInstructions,
        {"mm_name": "1.jpg", "conversation": [HUMAN | {"value": "a", "input_modality": "smell"}]},
        "smell",
    ),
    (
        NextGPTInstructions,
        {"image_list": [], "conversation": [GPT | {"value": "<Image>9.jpg</Image>"}]},
        "no list names",
    ),
    (Llava, {"conversations": [HUMAN | {"value": "<image>?"}]}, "no image left"),
    (Llava, {"image": "1.jpg", "conversations": []}, "expected a list of turns"),
    (Llava, {"image": ["1.jpg", "2.jpg"], "conversations": [HUMAN | {"value": "<image>?"}]}, "1 more media than marks"),
    (Llava, {"conversations": [{"from": "tool", "value": "x"}]}, "found 'tool'"),
    (VideoChat, {"video": "1.mp4", "QA": {}}, "QA: found no questions"),
    (Alpaca, {"instruction": "x"}, "expected output"),
    (Alpaca, {"instruction": "x", "output": "y", "history": [["a"]]}, "a question and an answer"),
    (ShareGPT, {"messages": [{"role": "user", "content": "hi"}], "images": ["1.jpg"]}, "1 more media than marks"),
    (
        MMC4,
        {"text_list": ["a"], "image_info": [{"image_name": "1.jpg", "matched_text_index": 1}]},
        "matched_text_index 1",
    ),
    (Obelics, {"images": ["1.jpg"], "texts": []}, "of one length"),
    (Obelics, {"images": ["1.jpg"], "texts": [None]}, "no text after an image"),
    *((form, ["not an object"], "expected an object") for form in (NextGPTPairs, Llava, Alpaca, ShareGPT, MMC4)),
]


@pytest.mark.parametrize(("form", "record", "says"), FAULTS)
def test_faults_name_the_file_the_line_and_the_field(folder: Path, form: Any, record: Any, says: str) -> None:
    source = form(lines(folder, {"first": "line"}, record))
    with pytest.raises(DataError, match=r"set\.jsonl:2") as caught:
        source[1]
    assert says in str(caught.value) and "Fix: " in str(caught.value)
    assert caught.value.fault in (Fault.SCHEMA, Fault.PATH)


def test_options_are_checked(folder: Path) -> None:
    path = lines(folder, {"image_name": "1.jpg", "caption": "a"})
    with pytest.raises(ValueError, match="direction: found 'up'"):
        NextGPTPairs(path, direction="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected an instruction with \{caption\}"):
        NextGPTPairs(path, draw=["draw it"])
    with pytest.raises(ValueError, match="describe: found no instruction"):
        NextGPTPairs(path, describe=[])
    with pytest.raises(ValueError, match="no folder at root"):
        NextGPTPairs(path, root=folder / "absent")
    with pytest.raises(ValueError, match="folders: found 'smell'"):
        NextGPTInstructions(path, folders={"smell": "x"})
    with pytest.raises(ValueError, match="none of NExT-GPT's sets"):
        formats.NextGPTFolder(folder)


@pytest.mark.parametrize("form", [CaptionTable, CC3M, WebVid, AudioCaps, Cap3D, NextGPTPairs])
def test_caption_formats_take_splits_and_give_captions(folder: Path, form: Any) -> None:
    """What evaluations and the choice of a split need of every set of captioned media."""
    kind, medium = {WebVid: ("video", "a/7.mp4"), AudioCaps: ("audio", "7.wav"), Cap3D: ("points", "1.ply")}.get(
        form, ("image", "1.jpg")
    )
    if form is NextGPTPairs:
        told = [{"image_name": "1.jpg", "caption": f"cat {i}", "split": s} for i, s in enumerate(("train", "test"))]
        source = form(lines(folder, *told), splits=["test"])
        wrong = lines(folder, *told)
    else:
        told = [{"split": s, "row": i, "caption": f"cat {i}"} for i, s in enumerate(("train", "test"))]
        names = {CC3M: "caption\turl", WebVid: "name,split", AudioCaps: "caption,split", Cap3D: "id,caption"}
        wrong = folder / "set.csv"
        if form in (CC3M, Cap3D):  # their files have no names of columns, and so no column of splits
            wrong.write_text("cat 0\tx\ncat 1\ty\n" if form is CC3M else "x,cat 0\ny,cat 1\n", encoding="utf-8")
            with pytest.raises(ValueError, match="none has the field 'split'"):
                form(wrong, splits=["test"])
            source = form(wrong, file=medium)
        else:
            header = names.get(form, "caption,split")
            wrong.write_text("\n".join([header, "cat 0,train", "cat 1,test"]), encoding="utf-8")
            arguments = {"modality": Modality.IMAGE} if form is CaptionTable else {}
            source = form(wrong, file=medium, splits=["test"], **arguments)
    conversation = source[len(source) - 1]
    assert conversation.details["caption"] == "cat 1" and conversation.details["modality"] == kind
    if form not in (CC3M, Cap3D):
        assert len(source) == 1 and source.where(0).endswith((":2", ":3"))
        assert conversation.details.get("split", "test") == "test"


def test_a_medium_may_have_several_captions() -> None:
    several = [Captions(seed=seed).chat("image", "1.jpg", ["a", " ", "b "], 0, "x") for seed in range(9)]
    assert {one["messages"][1]["content"][0]["text"] for one in several} == {"a", "b"}
    assert several[0]["caption"] == ["a", " ", "b "]
    with pytest.raises(DataError, match="caption: found no words"):
        Captions().chat("image", "1.jpg", [" "], 0, "x")
