"""What media a conversation holds is known from its record alone: no file is looked for, and none is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isthmus.data.conversations.preferences import PreferenceLines, PromptedPairs
from isthmus.data.conversations.schema import parse_conversation
from isthmus.data.conversations.sources import ConversationSource, JsonLines, media_label, media_named
from isthmus.data.errors import DataError
from isthmus.data.formats import NextGPTFolder
from isthmus.data.sampling.dealing import load_of
from isthmus.types import MEDIA, Modality

PICTURE = {"type": "image", "image": "a.png"}
DRAWN = {"type": "image", "caption": "a cat"}
SOUND = {"type": "audio", "caption": "rain"}
ASKED = {"role": "user", "content": [PICTURE, {"type": "text", "text": "what is it?"}]}
WORDS = {"role": "user", "content": "draw"}
ITEMS = st.sampled_from([{"type": "text", "text": "a"}, *({"type": str(m), "caption": "a"} for m in MEDIA)])


def written(folder: Path, *records: Any) -> Path:
    """A file of these records, and the picture that they name."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "a.png")
    path = folder / "set.jsonl"
    path.write_text("\n".join(record if isinstance(record, str) else json.dumps(record) for record in records))
    return path


def seen(source: ConversationSource) -> list[str]:
    """The labels that the conversations themselves show."""
    return [media_label(ConversationSource.media_in(source, index)) for index in range(len(source))]


@given(st.lists(st.lists(ITEMS, min_size=1), min_size=1))
def test_named_media_are_those_of_the_conversation(turns: list[list[Any]]) -> None:
    messages = [{"role": "assistant", "content": turn} for turn in turns]
    parsed = parse_conversation({"messages": messages}).messages
    held = {item.modality for message in parsed for item in message.content if hasattr(item, "modality")}
    assert media_named(messages) == held


@pytest.mark.parametrize(
    "odd", [None, 3, "a", {"content": []}, [3], [{"content": 3}], [{"content": [{"type": []}, 3]}]]
)
def test_what_is_no_turn_names_none(odd: Any) -> None:
    assert media_named(odd) == set()


def test_lines_of_conversations(tmp_path: Path) -> None:
    answers: list[Any] = ["a cat", [{"type": "text", "text": "there"}, SOUND], [DRAWN]]
    records = [{"messages": [ASKED, {"role": "assistant", "content": answer}]} for answer in answers]
    source = JsonLines(written(tmp_path, *records, {"messages": [WORDS, {"role": "assistant", "content": "no"}]}))
    assert list(source.labels()) == seen(source) == ["image", "image+audio", "image", "text"]
    (tmp_path / "a.png").unlink()
    assert list(source.labels())[:3] == ["image", "image+audio", "image"]


def test_what_lines_will_cost_is_known_without_their_files(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": [{"type": "text", "text": "12345678"}, SOUND]}
    source = JsonLines(written(tmp_path, {"messages": [ASKED, answer]}, {"messages": [WORDS]}, '{"messages": [', [3]))
    (tmp_path / "a.png").unlink()
    asked = ASKED["content"][1]["text"]
    assert source.load(0) == load_of(len(asked) + 8, {"image": 1}, {"audio": 1})
    assert source.load(0).keys() == {"positions", "image given", "audio made"}
    assert source.load(1) == load_of(len("draw"), {}, {}) and source.load(3) == {}
    assert load_of(4_000, {}, {})["positions"] > 10 * load_of(400, {}, {})["positions"]
    with pytest.raises(DataError, match=r"set\.jsonl:3"):
        source.load(2)


def test_a_line_that_cannot_be_read_is_told_in_its_turn(tmp_path: Path) -> None:
    """It is counted to the commonest kind, and is no group by itself."""
    sound = {"messages": [ASKED, {"role": "assistant", "content": "a cat"}]}
    source = JsonLines(written(tmp_path, sound, '{"messages": [', [3], {"messages": "x"}, sound))
    assert list(source.labels()) == ["image"] * 5
    assert list(JsonLines(written(tmp_path, "{")).labels()) == ["text"]


def test_pairs_count_what_is_asked_and_chosen(tmp_path: Path) -> None:
    pairs = [
        {"messages": [ASKED], "chosen": "a cat", "rejected": [SOUND]},
        {"messages": [WORDS], "chosen": [SOUND], "rejected": [DRAWN]},
        {"messages": [WORDS], "chosen": "a cat", "rejected": "a dog"},
    ]
    source = PreferenceLines(written(tmp_path, *pairs, {"messages": [WORDS]}))
    assert list(source.labels()) == ["image", "audio", "text", "image"]
    assert seen(PreferenceLines(written(tmp_path, *pairs))) == ["image", "audio", "text"]
    prompted = PromptedPairs(written(tmp_path, {"prompt": [ASKED], "chosen": "a", "rejected": "b"}))
    assert list(prompted.labels()) == seen(prompted) == ["image"]


def test_a_folder_asks_its_parts(tmp_path: Path) -> None:
    for kind, media in (("cc3m", "image"), ("audiocap", "audio")):
        folder = tmp_path / "T-X_pair_data" / kind
        folder.mkdir(parents=True)
        (folder / f"{kind}.json").write_text(json.dumps([{"caption": "a cat", "id": "1", f"{media}_name": "gone"}] * 2))
    assert list(NextGPTFolder(tmp_path).labels()) == ["image", "image", "audio", "audio"]


def test_a_source_of_its_own_kind_is_asked_for_conversations() -> None:
    from data.conversations import Numbers

    assert list(Numbers("a", 3, bad=(1,)).labels()) == [Modality.IMAGE, "text", Modality.IMAGE]
