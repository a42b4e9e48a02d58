"""Dialogues as their writers mark them up: marks, misnamed fields, tools, turns without a loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from isthmus.data.conversations.schema import Conversation, Message, TextItem, parse_conversation
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.errors import DataError
from isthmus.data.formats import Alpaca, ShareGPT
from isthmus.data.formats.captions import Captions
from isthmus.data.formats.columns import Columns
from isthmus.data.lint import Linter
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.remarks import Remark, remarks
from isthmus.data.streaming.records import as_record


def said(question: str, answer: str = "me", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **fields}


def read(folder: Path, record: Any, form: Any = ShareGPT) -> Conversation:
    (folder / "1.png").touch()
    (folder / "set.json").write_text(json.dumps([record]))
    found: Conversation = form(folder / "set.json")[0]
    return found


def kinds(message: Message) -> list[str]:
    return [item.text if isinstance(item, TextItem) else str(item.modality) for item in message.content]


@pytest.mark.parametrize("field", ["images", "image"])
def test_media_are_read_under_either_name(tmp_path: Path, field: str) -> None:
    assert kinds(read(tmp_path, said("<image>who?", **{field: "1.png"})).messages[0]) == ["image", "who?"]


def test_marks_within_code_take_no_medium(tmp_path: Path) -> None:
    found = read(tmp_path, said("<image>Explain `<image>`", "a mark", images=["1.png"]))
    assert kinds(found.messages[0]) == ["image", "Explain `<image>`"]
    record = {"instruction": "`<image>` and <image>", "output": "y", "images": ["1.png"]}
    assert kinds(read(tmp_path, record, Alpaca).messages[0]) == ["`<image>` and ", "image"]


def test_marks_without_media_are_counted(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(json.dumps(said("`<image>` and <audio>")))
    with remarks() as told:
        read(tmp_path, said("<image>who?"))
        read(tmp_path, said("what is `<video>`?"))
        JsonLines(tmp_path / "own.jsonl")[0]
    assert [kind for kind, _ in told] == [Remark.MARK] * 2
    assert "set.json:1: found <image> in a text, and no such medium" in told[0][1]
    assert "own.jsonl:1: found <audio> in a text" in told[1][1]
    (tmp_path / "set.json").write_text(json.dumps([said("<image>who?"), said("`<image>`?"), said("who?")]))
    report = Linter().lint(ShareGPT(tmp_path / "set.json"))
    assert {kind: found.count for kind, found in report.findings.items()} == {"mark without a medium": 1}


@pytest.mark.parametrize("role", ["chatgpt", "bing", "User", "narrator"])
def test_unknown_roles_are_faults(tmp_path: Path, role: str) -> None:
    with pytest.raises(DataError, match=f"found '{role}'; expected one of human, user.*observation"):
        read(tmp_path, {"conversations": [{"from": role, "value": "hi"}]})


def test_turns_without_a_loss_and_weights(tmp_path: Path) -> None:
    record = said("x")
    record["messages"][1]["loss"] = False
    record["messages"] += [{"role": "user", "content": "z"}, {"role": "assistant", "content": "w", "weight": 1}]
    wanted = [True, False, True, True]
    assert [message.trains for message in read(tmp_path, record).messages] == wanted
    columns = Columns(None, Captions("describe", None, None, 0), ["messages"])
    found = parse_conversation(columns.chat(record, "row 0", 0))
    assert [message.trains for message in found.messages] == wanted


CALLED = {"type": "function", "function": {"name": "w", "arguments": {"at": "sky"}}}
CALL = json.dumps({"name": "w", "arguments": {"at": "sky"}})


TURNS = {
    "sharegpt": [
        {"from": "human", "value": "w?"},
        {"from": "function_call", "value": CALL},
        {"from": "observation", "value": "sun"},
        {"from": "gpt", "value": "sun"},
    ],
    "openai": [
        {"role": "user", "content": "w?"},
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "content": "sun"},
        {"role": "assistant", "content": "sun"},
    ],
}


@pytest.mark.parametrize("style", TURNS)
@pytest.mark.parametrize("by", ["ShareGPT", "columns"])
def test_tools_their_calls_and_what_they_bring(tmp_path: Path, style: str, by: str) -> None:
    field = "messages" if style == "openai" else "conversations"
    record = {field: TURNS[style], "tools": '[{"name": "w"}]'}
    if by == "ShareGPT":
        found = read(tmp_path, record)
    else:
        columns = Columns(None, Captions("describe", None, None, 0), [field])
        found = parse_conversation(columns.chat(record, "row 0", 0))
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1].calls == (CALLED,) and found.tools == ({"name": "w"},)
    assert not any(message.calls for message in (found.messages[0], *found.messages[2:]))
    with pytest.raises(DataError, match="tool_calls: found 'wait', which is no JSON"):
        read(
            tmp_path, {"conversations": [{"from": "human", "value": "w?"}, {"from": "function_call", "value": "wait"}]}
        )


def test_shards_keep_tools_and_what_is_learnt(tmp_path: Path) -> None:
    record = said("x", tools=[{"name": "w"}])
    record["messages"] += [
        {"role": "assistant", "content": "", "tool_calls": [CALLED]},
        {"role": "assistant", "content": "y", "loss": False},
    ]
    found = read(tmp_path, record)
    kept = as_record(found, "here", MediaLimits()).named([])
    assert parse_conversation(json.loads(json.dumps(kept))) == found
