"""What the stages train on and the evaluation asks: media, words and expectations that agree with each other."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.pocket import dialogues
from isthmus.pocket.cells import MatrixCells
from isthmus.pocket.conversations import text_request
from isthmus.pocket.dialogues import DONE, OUTPUTS, Shown
from isthmus.pocket.language import (
    REQUESTS,
    SKILL_PROMPTS,
    SKILLS,
    SOURCES,
    belongs,
    draw_dialogue,
    in_words,
    skill_prompts,
)
from isthmus.pocket.tasks import AnyToAny, Arithmetic, Describe, Draw, PocketSource, TextOnly
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, Concept, Split
from isthmus.types import MEDIA, Modality

SOURCE_CLASSES: list[Callable[..., PocketSource]] = [Describe, Draw, AnyToAny, Arithmetic, TextOnly, MatrixCells]


def words(item: Any) -> str:
    return item.text if isinstance(item, TextItem) else ""


def text_of(conversation: Conversation, role: str) -> list[str]:
    return ["".join(map(words, m.content)).strip() for m in conversation.messages if m.role == role]


def media_of(conversation: Conversation, role: str) -> list[MediumItem]:
    return [i for m in conversation.messages if m.role == role for i in m.content if isinstance(i, MediumItem)]


def flat(conversation: Conversation) -> list[Any]:
    """Everything in it that can be compared, arrays as bytes."""
    return [
        (m.role, words(i))
        if isinstance(i, TextItem)
        else (m.role, i.modality, i.caption, None if i.media is None else i.media.array.tobytes())
        for m in conversation.messages
        for i in m.content
    ]


@pytest.mark.parametrize("build", SOURCE_CLASSES)
def test_an_item_is_a_function_of_the_settings_and_its_number(build: Callable[..., PocketSource]) -> None:
    source = build(seed=3)
    again = pickle.loads(pickle.dumps(build(seed=3)))  # what a worker gets
    other_seed, other_split = build(seed=4), build(split="validation", seed=3)
    assert [flat(source[i]) for i in (5, 0, 7)] == [flat(again[i]) for i in (5, 0, 7)]
    for different in (other_seed, other_split):
        assert [flat(source[i]) for i in range(6)] != [flat(different[i]) for i in range(6)]
    for index in (-1, len(source)):
        with pytest.raises(IndexError):
            source[index]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_media_are_drawn_from_the_split(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus.pocket import worlds

    drawn: list[tuple[Any, ...]] = []
    real = worlds.draw
    monkeypatch.setattr(worlds, "draw", lambda *given: drawn.append(given) or real(*given))
    for i in range(20):
        for message in AnyToAny(split, with_content=True)[i].messages:
            for item in message.content:
                assert not isinstance(item, MediumItem) or item.media is None or item.media.array.size  # type: ignore[union-attr]  # no files here
    assert len(drawn) > 20
    assert {given[2] for given in drawn} == {split}


@pytest.mark.parametrize(
    "build",
    [
        lambda: PocketSource("dev"),
        lambda: Describe(size=0),
        lambda: Describe(modalities=["text"]),
        lambda: Draw(modalities=["text"]),
        lambda: AnyToAny(outputs=[]),
        lambda: Arithmetic(inputs=["smell"]),
        lambda: MatrixCells(per_cell=0),
        lambda: MatrixCells(text_skill=SKILL_PROMPTS + 1),
    ],
)
def test_wrong_settings_are_refused(build: Callable[[], PocketSource]) -> None:
    with pytest.raises(ValueError, match=r"found .*; expected .* Fix: "):
        build()


def test_describing_takes_the_modalities_in_turn_and_names_what_they_show() -> None:
    source = Describe(modalities=["audio", "video"])
    answers: dict[str, set[str]] = {"audio": set(), "video": set()}
    for i in range(200):
        conversation = source[i]
        (medium,) = media_of(conversation, "user")
        assert medium.modality == ("audio", "video")[i % 2]
        assert medium.media is not None and medium.media.modality == medium.modality
        answers[medium.modality].update(text_of(conversation, "assistant")[0].split())
    assert answers["audio"] == {"the", "tone", "of", *DIGITS}
    assert answers["video"] == {"a", "moving", *DIGITS, *COLOURS, *MOTIONS}


def test_what_is_drawn_is_said_first_and_told_in_its_own_modality() -> None:
    for i in range(60):
        conversation = Draw(with_content=i % 2 == 0)[i]
        (medium,) = media_of(conversation, "assistant")
        assert medium.modality == tuple(DONE)[i % 4]
        assert text_of(conversation, "assistant") == [f"{medium.caption}, {DONE[Modality(medium.modality)]}"]
        assert (medium.media is not None) == (i % 2 == 0)
        assert not media_of(conversation, "user")
        # Nothing is added to what was asked for, and nothing that the medium can show is left out.
        asked, caption = set(text_of(conversation, "user")[0].split()), set((medium.caption or "").split())
        facts = {
            *DIGITS,
            *(COLOURS if medium.modality != "audio" else ()),
            *(MOTIONS if medium.modality == "video" else ()),
        }
        assert asked & facts == caption & facts


def test_any_to_any_covers_all_pairs_alike_and_leaves_undetermined_attributes_unsaid() -> None:
    pairs: Counter[tuple[str, str]] = Counter()
    shapes: Counter[str] = Counter()
    for i in range(800):
        conversation = AnyToAny()[i]
        first = Conversation(conversation.messages[:2])
        given_media, made = media_of(first, "user"), media_of(first, "assistant")
        given_as = given_media[0].modality if given_media else "text"
        pairs[given_as, SOURCES[i % 5]] += 1
        shapes["turns"] += len(conversation.messages) > 2
        shapes["two media"] += len(made) == 2
        request = text_of(first, "user")[0]
        for medium in made:
            said = set((medium.caption or "").split())
            if given_as in ("image", "points", "audio") and "moving" not in request:
                assert not said & set(MOTIONS), conversation
            if given_as == "audio" and " in " not in request:
                assert not said & set(COLOURS), conversation
    assert pairs == {(source, source): 160 for source in SOURCES}
    assert shapes["turns"] > 80 and shapes["two media"] > 10


def test_a_model_of_fewer_modalities_is_never_asked_for_others() -> None:
    source = AnyToAny(inputs=["image"], outputs=["text", "audio"])
    for i in range(200):
        assert {item.modality for item in media_of(source[i], "user")} == {"image"}
        assert {item.modality for item in media_of(source[i], "assistant")} <= {"audio"}


def test_attributes_named_in_a_request_go_into_what_is_made() -> None:
    random = np.random.default_rng(0)
    image = Shown(Modality.IMAGE, Concept(7, "red", "left"))
    seen = set()
    for _ in range(60):
        exchange = dialogues.make_changed(random, image, Modality.VIDEO)
        request, medium = exchange.user[-1], exchange.assistant[-1]
        assert isinstance(request, str) and isinstance(medium, Shown)
        last = request.split()[-1]
        expected = f"a {last} seven" if last in COLOURS else f"a red seven moving {last}"
        assert medium.caption == expected
        seen.add(last)
    assert seen == {*COLOURS, *MOTIONS}


@given(st.integers(0, 10_000))
def test_sums_are_right(index: int) -> None:
    random = np.random.default_rng(index)
    first, second = dialogues.draw_pair(random)
    exchange = dialogues.add(random, DIGITS[first], DIGITS[second], first + second, OUTPUTS[index % 5])
    asked = [word.strip("?") for part in exchange.user if isinstance(part, str) for word in part.split()]
    numbers = [DIGITS.index(word) for word in asked if word in DIGITS]
    said = [word.strip(",") for word in str(exchange.assistant[0]).split()]
    assert [DIGITS.index(word) for word in said if word in DIGITS] == [sum(numbers)]
    assert not set(said) & {*COLOURS, *MOTIONS}


def test_arithmetic_asks_for_a_seen_digit_and_a_heard_one() -> None:
    kinds: Counter[tuple[str, ...]] = Counter()
    for i in range(120):
        conversation = Arithmetic()[i]
        kinds[tuple(item.modality for item in media_of(conversation, "user"))] += 1
        assert [m.modality for m in media_of(conversation, "assistant")] == [[], ["image"], ["audio"]][i % 3]
    assert kinds["image", "audio"] > 50 and len(kinds) > 8


def test_no_prompt_of_the_test_is_trained_on() -> None:
    asked = {str(in_words(dialogue)[-1].user) for _, dialogue in skill_prompts() if len(dialogue) == 1}
    test = MatrixCells(per_cell=50, inputs=["text"], arithmetic=False)
    asked |= {str((text_of(test[i], "user")[0],)) for i in range(len(test))}
    for source in (TextOnly(), Draw(), AnyToAny(inputs=["text"])):
        for i in range(400):
            conversation = source[i]
            assert str((text_of(conversation, "user")[0],)) not in asked


def test_text_alone_holds_no_media_and_small_talk_only_in_training() -> None:
    for split in ("train", "test"):
        talk = 0
        for i in range(300):
            conversation = TextOnly(split)[i]
            assert not media_of(conversation, "user") and not media_of(conversation, "assistant")
            assert not set(DONE.values()) & set(" ".join(text_of(conversation, "assistant")).replace(",", "").split())
            talk += text_of(conversation, "user")[0] in ("hello", "hi", "thank you")
        assert (talk > 0) == (split == "train")


def test_every_kind_of_text_has_prompts_in_every_split_and_no_prompt_in_two() -> None:
    random = np.random.default_rng(1)
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for kind in {**SKILLS, **REQUESTS}.values():
        for split in splits:
            dialogue = draw_dialogue(kind, split, random)
            assert [own for own in splits if belongs(dialogue[:1], own)] == [split] or len(dialogue) > 1
            assert belongs(dialogue, split)
            if split == "train":  # nor does a training dialogue begin with another split's prompt
                assert all(belongs(dialogue[: length + 1], "train") for length in range(len(dialogue)))


def test_the_matrix_is_balanced_and_its_details_are_plain() -> None:
    source = MatrixCells(per_cell=10, text_skill=12)
    assert len(source) == 10 * (5 * 5 + 3) + 12
    cells: dict[str, Counter[int]] = {}
    for i in range(len(source)):
        conversation = source[i]
        details = conversation.details
        assert conversation.messages[-1].role == "user"
        assert json.loads(json.dumps(details)) == details
        assert ("answer" in details) == (details["output"] == "text")
        if details["task"] != "text_only":
            cells.setdefault(details["cell"], Counter())[details["expect"]["digit"]] += 1
    assert set(cells) == {f"{i}->{o}" for i in SOURCES for o in OUTPUTS} | {
        f"image+audio->{o}" for o in ("text", "image", "audio")
    }
    assert all(counts == Counter(range(10)) for counts in cells.values())


def test_each_cell_expects_what_both_sides_carry() -> None:
    carries = {
        "text": {"colour", "motion"},
        "video": {"colour", "motion"},
        "image": {"colour"},
        "points": {"colour"},
        "audio": set(),
    }
    source = MatrixCells(per_cell=10)
    for i in range(len(source)):
        conversation = source[i]
        details = conversation.details
        given_as, output = details["cell"].split("->")
        said = {name for name in ("colour", "motion") if details["expect"][name] is not None}
        if details["task"] == "arithmetic":
            assert said == set()
        elif given_as == "text":
            assert said <= carries[output]
            assert {str(details["expect"][name]) for name in said} <= set(text_of(conversation, "user")[0].split())
        else:
            assert said == carries[given_as] & carries[output]
        if details["task"] == "matrix" and output == "text":
            facts = [DIGITS[details["expect"]["digit"]], *(details["expect"][name] for name in said)]
            assert set(facts) <= set(details["answer"].split())


def test_expectations_are_what_the_media_show() -> None:
    source = MatrixCells(per_cell=10, inputs=["video", "audio"], outputs=["text"], arithmetic=False)
    for i in range(len(source)):
        conversation = source[i]
        (item,) = media_of(conversation, "user")
        assert item.media is not None and not isinstance(item.media, str)
        expect = conversation.details["expect"]
        array = item.media.array  # type: ignore[union-attr]
        if item.modality == Modality.VIDEO:
            ink = array.astype(float).max(-1)
            ink = np.where(ink > 80, ink, 0)
            rows, columns = np.mgrid[:32, :32]
            x, y = ((ink * axis).sum((1, 2)) / ink.sum((1, 2)) for axis in (columns, rows))
            drift = np.array([x[-1] - x[0], y[-1] - y[0]])
            assert max(MOTIONS, key=lambda name: float(drift @ MOTIONS[name])) == expect["motion"]
        else:
            from isthmus.pocket.world import KEYPAD, SAMPLE_RATE

            time = np.arange(len(array)) / SAMPLE_RATE
            power = {f: abs(np.exp(-2j * np.pi * f * time) @ array) for pair in KEYPAD.values() for f in pair}
            best = max(KEYPAD, key=lambda digit: min(power[f] for f in KEYPAD[digit]))
            assert best == expect["digit"]


def test_text_skill_prompts_close_the_matrix() -> None:
    source = MatrixCells(per_cell=1, inputs=["text"], outputs=["text"], arithmetic=False, text_skill=30)
    for i in range(1, len(source)):
        conversation, (_, dialogue) = source[i], skill_prompts()[i - 1]
        assert conversation.details["task"] == "text_only"
        assert [conversation.details["answer"]] == list(in_words(dialogue)[-1].assistant)
        assert not media_of(conversation, "user")
        assert text_of(conversation, "user") == [exchange.user[0].strip() for exchange in in_words(dialogue)]  # type: ignore[union-attr]


def test_told_requests_name_the_digit() -> None:
    random = np.random.default_rng(0)
    for output in tuple(DONE) * 20:
        exchange = text_request(random, output, digit=4)
        assert "four" in " ".join(part if isinstance(part, str) else part.caption for part in exchange.user)
        medium = exchange.assistant[-1]
        assert isinstance(medium, Shown) and medium.modality in MEDIA and medium.known.digit == 4
