"""The chat-content convention: what is read, and one clear error for each violation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem, parse_conversation
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.errors import DataError, Fault
from isthmus.types import Media, Modality


def one(role: str, item: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": [item]}]}


def test_reads_text_media_captions_and_details(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"unopened until it is needed")
    raw = {
        "id": "seven",
        "expected": {"digit": 7},
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "who?"}, {"type": "image", "image": "cat.png"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "image", "caption": "a cat"},
                    {"type": "image", "image": "cat.png", "caption": "b cat"},
                ],
            },
        ],
    }
    conversation = parse_conversation(raw, root=tmp_path)
    assert conversation.details == {"id": "seven", "expected": {"digit": 7}}
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant"]
    assert conversation.messages[0].content == (TextItem("be brief"),)
    given, made, filed = conversation.messages[1].content[1], *conversation.messages[2].content
    assert isinstance(given, MediumItem) and given.media == (tmp_path / "cat.png").resolve() and given.caption is None
    assert isinstance(made, MediumItem) and made.media is None and made.caption == "a cat"
    assert isinstance(filed, MediumItem) and filed.media == given.media
    assert conversation.prompt().messages == conversation.messages[:2]
    assert conversation.prompt().details is conversation.details


def test_reads_media_in_memory() -> None:
    samples = np.zeros(8)
    media = [
        parse_conversation(one("user", item)).messages[0].content[0]
        for item in (
            {"type": "image", "image": Image.new("L", (5, 4), 7)},
            {"type": "audio", "audio": samples, "rate": 8000},
            {"type": "points", "points": Media(Modality.POINTS, np.ones((4, 3), np.float32))},
        )
    ]
    arrays = [item.media.array for item in media if isinstance(item, MediumItem) and isinstance(item.media, Media)]
    assert [array.shape for array in arrays] == [(4, 5, 3), (8,), (4, 3)]
    assert [array.dtype for array in arrays] == [np.uint8, np.float32, np.float32]
    assert (arrays[0] == 7).all()


def test_a_chats_history_needs_no_captions() -> None:
    raw = one("assistant", {"type": "image", "image": np.zeros((2, 2, 3), np.uint8)})
    assert parse_conversation(raw, captions_required=False).messages[0].role == "assistant"
    with pytest.raises(DataError, match="caption"):
        parse_conversation(raw)


TEXT = {"type": "text", "text": "hi"}

VIOLATIONS: list[tuple[Any, str, str]] = [
    ([], "data.jsonl:3:", "a mapping with 'messages'"),
    ({}, "data.jsonl:3:", "no 'messages'"),
    ({"messages": []}, "data.jsonl:3:", "'messages' is empty"),
    ({"messages": "hi"}, "data.jsonl:3:", "'messages' is str 'hi'"),
    ({"messages": ["hi"]}, "messages[0]", "a mapping with 'role' and 'content'"),
    ({"messages": [{"role": "human", "content": "hi"}]}, "messages[0].role", "found 'human'"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "found None"),
    ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages[0].role", "found ['user']"),
    ({"messages": [{"role": "user", "content": "hi", "mood": 1}]}, "messages[0]", "the key 'mood'"),
    ({"messages": [{"role": "user", "content": "hi", "weight": 1}]}, "messages[0].weight", "on a turn of the user"),
    ({"messages": [{"role": "assistant", "content": "hi", "weight": 0.5}]}, "messages[0].weight", "found 0.5"),
    ({"messages": [{"role": "assistant", "content": "hi", "loss": "no"}]}, "messages[0].loss", "found 'no'"),
    ({"messages": [{"role": "user", "content": "hi", "tool_calls": [{"name": "f"}]}]}, "tool_calls", "of the user"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"arguments": {}}]}]}, "tool_calls[0]", "'arguments'"),
    ({"messages": [{"role": "assistant", "tool_calls": "{"}]}, "messages[0].tool_calls", "is no JSON"),
    ({"messages": [{"role": "user", "content": "hi"}], "tools": {"name": "f"}}, "tools", "found"),
    ({"messages": [{"role": "user", "content": "hi"}, {"role": "user"}]}, "messages[1].content", "found nothing"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "an empty list"),
    ({"messages": [{"role": "user", "content": "hi"}], "details": 3}, "details", "found int '3'"),
    (one("user", "hi"), "messages[0].content[0]", "a mapping with 'type'"),
    (one("user", {"text": "hi"}), "content[0].type", "found None"),
    (one("user", {"type": "picture", "picture": "a.png"}), "content[0].type", "found 'picture'"),
    (one("user", {"type": {}, "text": ""}), "content[0].type", "found {}"),
    (one("user", {"type": "text", "text": 3}), "content[0].text", "found int '3'"),
    (one("user", {"type": "text", "content": "hi"}), "content[0]", "the key 'content'"),
    (one("user", {"type": "image"}), "content[0].image", "no file"),
    (one("user", {"type": "image", "path": "a.png"}), "content[0]", "the key 'path'"),
    (one("user", {"type": "image", "image": "absent.png"}), "content[0].image", "no file at"),
    (one("user", {"type": "image", "image": 3}), "content[0].image", "found int"),
    (one("user", {"type": "image", "image": "http://a.b/c.png"}), "content[0].image", "the URL"),
    (one("user", {"type": "image", "image": "../../etc/passwd"}), "content[0].image", "leads outside"),
    (one("user", {"type": "audio", "audio": np.zeros(4), "rate": "fast"}), "rate", "found 'fast'"),
    (one("user", {"type": "audio", "audio": np.zeros(4)}), "content[0].audio", "at rate None"),
    (one("user", {"type": "image", "image": np.zeros((2, 2))}), "content[0].image", "(2, 2)"),
    (one("assistant", {"type": "image", "image": "a.png"}), "content[0].caption", "the assistant generates this image"),
    (one("assistant", {"type": "audio", "caption": " "}), "content[0].caption", "words in it"),
    (one("assistant", {"type": "audio", "caption": 3}), "content[0].caption", "words in it"),
]


@pytest.mark.parametrize(("raw", "field", "said"), VIOLATIONS, ids=lambda value: str(value)[:40])
def test_each_violation_is_one_error(raw: Any, field: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        parse_conversation(raw, "data.jsonl:3", tmp_path)
    message = str(caught.value)
    assert message.startswith("data.jsonl:3") and field in message and said in message
    assert "expected" in message and ("Fix: " in message or "or convert the array" in message)
    assert isinstance(caught.value, ValueError) and caught.value.fault in (Fault.SCHEMA, Fault.PATH)


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_json_lines_are_read_by_index(tmp_path: Path) -> None:
    rows = [{"id": i, "messages": [{"role": "user", "content": f"ünïcode {i} 😀"}]} for i in range(5)]
    path = write_lines(tmp_path / "talk.jsonl", rows[0], "", "  ", *rows[1:], "")
    source = JsonLines(path)
    assert len(source) == 5 and source.name == "talk"
    for index in (4, 0, 2, 1, 3, -1):
        assert source[index].details["id"] == rows[index]["id"]
        assert source[index].messages[0].content == (TextItem(f"ünïcode {rows[index]['id']} 😀"),)


@pytest.mark.parametrize("bad", ["{'id': 3}", '{"messages": [', "\x00", "[" * 100_000], ids=range(4))
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, bad: str) -> None:
    good = {"messages": [{"role": "user", "content": "hi"}]}
    source = JsonLines(write_lines(tmp_path / "talk.jsonl", good, "", bad, good))
    assert len(source[2].messages) == 1
    with pytest.raises(DataError, match=r"talk\.jsonl:3: found no JSON"):
        source[1]


def test_a_line_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}\n')
    with pytest.raises(DataError, match=r"talk\.jsonl:1: found bytes that aren't UTF-8"):
        JsonLines(path)[0]


def test_a_bad_conversation_is_named_by_its_line(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "hi"}]}
    source = JsonLines(write_lines(tmp_path / "talk.jsonl", "", good, {"messages": [{"role": "gpt", "content": "x"}]}))
    with pytest.raises(DataError, match=r"talk\.jsonl:3: messages\[0\]\.role: found 'gpt'"):
        source[1]


def test_a_source_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file"):
        JsonLines(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match="found no records"):
        JsonLines(write_lines(tmp_path / "empty.jsonl", "", " "))
    with pytest.raises(ValueError, match="found no folder at root"):
        JsonLines(write_lines(tmp_path / "a.jsonl", "{}"), root=tmp_path / "absent")


@pytest.mark.parametrize(
    ("roles", "left"),
    [
        ("suauau", ["suauau", "suau", "su"]),
        ("uaau", ["uaau", "u"]),
        ("uuau", ["uuau", "uau", "u"]),
        ("sauau", ["sauau", "suau", "su"]),  # a greeting goes first
        ("suasau", ["suasau", "ssu"]),  # the system's late word stays
        ("u", ["u"]),
        ("s", ["s"]),
    ],
)
def test_the_oldest_exchanges_are_left_out_whole(roles: str, left: list[str]) -> None:
    names = {"s": "system", "u": "user", "a": "assistant"}
    raw = {"messages": [{"role": names[role], "content": f"{i}"} for i, role in enumerate(roles)], "id": "x"}
    conversation = parse_conversation(raw)
    for exchanges, expected in enumerate(left):
        shorter = conversation.without_oldest(exchanges)
        assert "".join(message.role[0] for message in shorter.messages) == expected
        assert shorter.details == {"id": "x"} and shorter.messages[-1] is conversation.messages[-1]


def test_what_is_null_is_not_there() -> None:
    """As tables of structs write it, in which each part has every other part's fields."""
    part = {"type": "text", "text": "hi", "image": None, "caption": None}
    turn = {"role": "user", "content": [part], "name": None, "weight": None}
    found = parse_conversation({"messages": [turn], "id": None, "details": None, "label": None, "n": 0})
    plain = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    assert found == parse_conversation({"messages": [plain], "n": 0})
    with pytest.raises(DataError, match="found the key 'image'"):
        parse_conversation({"messages": [{"role": "user", "content": [{**part, "image": ""}]}]})


@pytest.mark.parametrize("extra", [{"id": "\ud800"}, {"details": {"a": ["x", "\udfff"]}}, {"tags": {"\udc00": 1}}])
def test_half_a_character_is_a_fault_wherever_it_stands(extra: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"talk:3: .*found U\+D[89A-F]") as caught:
        parse_conversation({"messages": [{"role": "user", "content": "x"}], **extra}, "talk:3")
    assert caught.value.fault is Fault.SCHEMA


def test_parts_without_a_file_take_the_records_media(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    image, text = {"type": "image", "text": None}, {"type": "text", "text": "Which?"}
    record = {"messages": [{"role": "user", "content": [image, text, image]}], "images": ["a.png", "b.png"]}
    path = tmp_path / "talk.jsonl"

    def read(told: dict[str, Any]) -> Conversation:
        path.write_text(json.dumps(told), encoding="utf-8")
        return JsonLines(path)[0]

    found = read(record)
    shown = [item.media for item in found.messages[0].content if isinstance(item, MediumItem)]
    assert shown == [tmp_path / "a.png", tmp_path / "b.png"] and found.details == {}
    with pytest.raises(DataError, match=r"talk\.jsonl:1: images: found 3 for 2 parts of type image"):
        read({**record, "images": ["a.png"] * 3})
    with pytest.raises(DataError, match="image: found no file"):
        read({**record, "images": ["a.png"]})
    words = {"messages": [{"role": "user", "content": "hi"}], "images": ["a.png"]}
    assert read(words).details == {"images": ["a.png"]}


def test_a_turn_says_whether_it_is_learnt() -> None:
    said = [{"loss": False}, {"weight": 0}, {"loss": None}, {"weight": 1}, {"loss": True, "weight": 0.0}]
    turns = [{"role": "assistant", "content": "x", **own} for own in said]
    found = parse_conversation({"messages": [{"role": "user", "content": "x", "loss": False}, *turns]})
    assert [message.trains for message in found.messages[1:]] == [False, False, True, True, False]


def test_calls_and_tools_are_read_in_the_forms_that_sets_have() -> None:
    bare, whole = {"name": "f", "arguments": {"x": 1}}, {"function": {"name": "f", "arguments": '{"x": 1}'}, "id": "1"}
    raw: list[Any] = [bare, [bare], [whole], json.dumps(bare), json.dumps([bare])]
    messages = [{"role": "assistant", "content": None, "tool_calls": calls} for calls in raw]
    messages += [{"role": "tool", "content": "1", "tool_call_id": "1", "name": "f"}]
    for tools in ([bare], json.dumps([bare])):
        found = parse_conversation({"messages": messages, "tools": tools})
        called = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
        assert all(message.calls == (called,) and not message.content for message in found.messages[:-1])
        assert found.messages[-1].role == "tool" and found.tools == (bare,) and not found.details
        assert found.without_oldest(0).tools == found.prompt().tools == (bare,)
