"""Pairs from our own lines and from the JSON of common sets, and their faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.conversations import byte_level, positions
from PIL import Image

from isthmus.data.batching.loader import ConversationLoader
from isthmus.data.batching.pairs import Pair, PairCollator, check_pair
from isthmus.data.conversations import preferences
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.preferences import PreferenceLines
from isthmus.data.conversations.schema import MediumItem, Message, TextItem
from isthmus.data.errors import DataError, Fault
from isthmus.data.sampling.schedule import InOrder
from isthmus.types import IGNORED, Modality
from isthmus.vocabulary import Vocabulary

ASKED = [{"role": "user", "content": "draw a seven"}]
GOOD = [{"type": "text", "text": "drawn"}, {"type": "image", "caption": "a red seven", "image": "good.png"}]


def source(folder: Path, kind: str, *items: Any, as_list: bool = False) -> PreferenceLines:
    """A source of this kind over a file of these objects."""
    for name in ("good.png", "bad.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / name)
    path = folder / "pairs.json"
    path.write_text(json.dumps(items) if as_list else "\n".join(json.dumps(item) for item in items))
    made: PreferenceLines = getattr(preferences, kind)(path)
    return made


def pair_collator() -> PairCollator:
    """A collator of a model that makes images."""
    prepare = {Modality.IMAGE: lambda medium: {"latent": torch.full((2, 2), float(medium.array.mean()))}}
    tokenizer = byte_level()
    planner = Planner(tokenizer, Vocabulary(len(tokenizer)))
    return PairCollator(planner, {}, positions, [Modality.IMAGE], prepare, 512, targets="last")


def words(message: Message) -> str:
    return " ".join(item.text for item in message.content if isinstance(item, TextItem))


def test_our_own_lines_hold_text_and_media_on_both_sides(tmp_path: Path) -> None:
    bad = [*GOOD[:1], {"type": "image", "caption": "a red two", "image": "bad.png"}]
    pairs = source(
        tmp_path, "PreferenceLines", {"messages": ASKED, "chosen": GOOD, "rejected": bad, "id": "a", "seed": 3}
    )
    assert len(pairs) == 1
    pair = pairs[0]
    assert pair.details == {"id": "a", "seed": 3}
    assert [message.role for message in pair.messages] == ["user", "assistant"]
    chosen, rejected = pair.messages[-1].content[1], pair.rejected.content[1]
    assert isinstance(chosen, MediumItem) and chosen.media == tmp_path / "good.png"
    assert isinstance(rejected, MediumItem) and rejected.caption == "a red two"
    assert pair.other().messages == (*pair.messages[:-1], pair.rejected)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize(
    ("kind", "item", "turns"),
    [
        ("PromptedPairs", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, ["2+2?", "4"]),
        (
            "PromptedPairs",
            {
                "prompt": [{"role": "user", "content": "2+2?"}],
                "chosen": [{"role": "assistant", "content": "4"}],
                "rejected": [{"role": "assistant", "content": "5"}],
            },
            ["2+2?", "4"],
        ),
        (
            "PromptedPairs",
            {
                side: [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": said}]
                for side, said in (("chosen", "4"), ("rejected", "5"))
            },
            ["2+2?", "4"],
        ),
        (
            "PromptedPairs",
            {
                "prompt": "2+2?",
                **{
                    side: [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": said}]
                    for side, said in (("chosen", "4"), ("rejected", "5"))
                },
            },
            ["2+2?", "4"],
        ),
        (
            "Transcripts",
            {
                side: f"\n\nHuman: hi\n\nAssistant: hello\n\nHuman: 2+2?\n\nAssistant: {said}"
                for side, said in (("chosen", "4"), ("rejected", "5"))
            },
            ["hi", "hello", "2+2?", "4"],
        ),
        (
            "ImageQuestions",
            {"image_path": "good.png", "text": json.dumps({"question": "2+2?", "chosen": "4", "rejected": "5"})},
            ["2+2?", "4"],
        ),
        ("ImageQuestions", {"image": "good.png", "question": "2+2?", "chosen": "4", "rejected": "5"}, ["2+2?", "4"]),
        (
            "RankedResponses",
            {"question": "2+2?", "response_1": "5", "response_2": "4", "overall_response": 2},
            ["2+2?", "4"],
        ),
        (
            "RankedResponses",
            {"prompt": "2+2?", "image": "good.png", "response_1": "4", "response_2": "5", "overall_response": "1"},
            ["2+2?", "4"],
        ),
    ],
)
def test_common_sets_are_read(tmp_path: Path, kind: str, item: Any, turns: list[str], as_list: bool) -> None:
    pair = source(tmp_path, kind, item, as_list=as_list)[0]
    assert [words(message) for message in pair.messages] == turns
    assert words(pair.rejected) == "5"
    given = [part for part in pair.messages[0].content if isinstance(part, MediumItem)]
    assert len(given) == ("image" in item or "image_path" in item)


@pytest.mark.parametrize(
    ("kind", "item", "fault", "message"),
    [
        ("PreferenceLines", {"messages": ASKED, "chosen": "a", "rejected": "a"}, Fault.EQUAL_PAIR, "same answer twice"),
        ("PreferenceLines", {"messages": ASKED, "chosen": GOOD, "rejected": GOOD}, Fault.EQUAL_PAIR, "drop the pair"),
        (
            "PreferenceLines",
            {"messages": ASKED, "chosen": " ", "rejected": "a"},
            Fault.SCHEMA,
            "neither text nor media",
        ),
        (
            "PreferenceLines",
            {"messages": ASKED, "chosen": "a", "rejected": []},
            Fault.SCHEMA,
            "rejected: found neither",
        ),
        ("PreferenceLines", {"messages": ASKED, "chosen": "a"}, Fault.SCHEMA, "found no 'rejected' among messages"),
        ("PreferenceLines", {"messages": "x", "chosen": "a", "rejected": "b"}, Fault.SCHEMA, "a list of turns"),
        ("PreferenceLines", "a", Fault.SCHEMA, "found a str; expected an object"),
        ("Transcripts", {"chosen": "hello", "rejected": "b"}, Fault.SCHEMA, "a transcript of 'Human:'"),
        ("PromptedPairs", {"chosen": "a", "rejected": "b"}, Fault.SCHEMA, "add the prompt"),
        ("ImageQuestions", {"text": "{"}, Fault.SCHEMA, "text: found no JSON"),
        (
            "RankedResponses",
            {"question": "q", "response_1": "a", "response_2": "b", "overall_response": 3},
            Fault.SCHEMA,
            "found '3'; expected 1 or 2",
        ),
    ],
)
def test_faults_are_named(tmp_path: Path, kind: str, item: Any, fault: Fault, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        source(tmp_path, kind, item)[0]
    assert caught.value.fault is fault
    assert str(tmp_path / "pairs.json") + ":1" in str(caught.value)


def test_a_damaged_or_empty_list_is_refused(tmp_path: Path) -> None:
    for text, message in (("[{]", "no JSON"), ("[]", "no records"), ("", "no records")):
        (tmp_path / "pairs.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            PreferenceLines(tmp_path / "pairs.json")[0]


def test_a_pair_built_in_memory_needs_the_assistants_answers() -> None:
    user, one = Message("user", (TextItem("hi"),)), Message("assistant", (TextItem("a"),))
    with pytest.raises(DataError, match="rejected: found a turn of the user"):
        check_pair(Pair((user, one), {}, user), "pair")
    with pytest.raises(DataError, match="rejected: found neither"):
        check_pair(Pair((user, one)), "pair")


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_equal_pairs_are_fatal_or_counted(tmp_path: Path, on_error: Any) -> None:
    items = [{"messages": ASKED, "chosen": "a", "rejected": said} for said in ("a", "b")]
    pairs = source(tmp_path, "PreferenceLines", *items)
    loader = ConversationLoader(InOrder("train", {"p": 2}, 2), {"p": pairs}, pair_collator(), on_error=on_error)
    if on_error == "raise":
        with pytest.raises(DataError, match="same answer twice"):
            next(iter(loader))
        return
    batch = next(iter(loader))
    assert len(batch) == 4 and loader.skipped == {"equal pair": 1}


def test_a_batch_holds_chosen_rows_then_rejected_ones(tmp_path: Path) -> None:
    bad = [{"type": "image", "caption": "a red two", "image": "bad.png"}, {"type": "text", "text": "drawn"}]
    items = [{"messages": [*ASKED, {"role": "assistant", "content": "how?"}, *ASKED], "chosen": GOOD, "rejected": bad}]
    pairs = source(tmp_path, "PreferenceLines", *items, {"messages": ASKED, "chosen": "a", "rejected": "bb"})
    collator = pair_collator()
    batch = collator([pairs[0], pairs[1]])
    assert len(batch) == 4
    runs = batch.signals[Modality.IMAGE]
    assert runs.rows.tolist() == [0, 2] and runs.captions == ["a red seven", "a red two"]
    assert runs.seeds[0] == runs.seeds[1] and runs.content_runs.tolist() == [0, 1]
    # Both sides begin with the same prompt, of which nothing is a target, earlier answers included.
    begins = (batch.labels != IGNORED).int().argmax(1).tolist()
    for row in (0, 1):
        assert begins[row] == begins[row + 2] > 0
        assert torch.equal(batch.ids[row, : begins[row]], batch.ids[row + 2, : begins[row]])
    with pytest.raises(DataError, match="one answer; expected a pair"):
        collator([pairs[0].other()])


@pytest.mark.parametrize("other", [" a ", "a\n"])
def test_answers_that_the_template_makes_equal_are_an_equal_pair(tmp_path: Path, other: str) -> None:
    """Templates such as Llama 3's strip what is said: the file's answers differ, and the model's don't."""
    pairs = source(tmp_path, "PreferenceLines", {"messages": ASKED, "chosen": "a", "rejected": other})
    collator = pair_collator()
    template = collator.planner._tokenizer.chat_template
    assert "{{ m.content }}" in template
    collator.planner._tokenizer.chat_template = template.replace("{{ m.content }}", "{{ m.content | trim }}")
    with pytest.raises(DataError, match="same tokens and media once laid out") as caught:
        collator([pairs[0]])
    assert caught.value.fault is Fault.EQUAL_PAIR


@pytest.mark.parametrize("compared", [True, False])
@pytest.mark.parametrize("value", [0, 9])
def test_two_files_of_one_picture_are_an_equal_pair(tmp_path: Path, value: int, compared: bool) -> None:
    """Told where a stage reads the files; where it doesn't, their names are all that is known of them."""
    other = [GOOD[0], {**GOOD[1], "image": "bad.png"}]
    pairs = source(tmp_path, "PreferenceLines", {"messages": ASKED, "chosen": GOOD, "rejected": other})
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / "bad.png")
    collator = pair_collator()
    if not compared:
        collator.prepare = {}
    if value or not compared:
        assert len(collator([pairs[0]])) == 2
        return
    with pytest.raises(DataError, match="same tokens and media once laid out"):
        collator([pairs[0]])
