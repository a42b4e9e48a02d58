"""The talk world's conversations: natural requests, answers that say what they give, prompts held out by template."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from isthmus.data.conversations.schema import Conversation, MediumItem, TextItem
from isthmus.pocket.dialogues import Dialogue, Shown
from isthmus.pocket.talk import AnyToAny, Arithmetic, Captions, Chat, Describe, Draw, MatrixCells
from isthmus.pocket.talk.exchanges.answers import HERE
from isthmus.pocket.tasks import PocketSource
from isthmus.pocket.wording.grammar import ADJECTIVES, Choices, expand, put
from isthmus.pocket.wording.subjects import SCENES
from isthmus.pocket.wording.things import NUMBER, told
from isthmus.pocket.wording.typed import typed
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, Concept, Split
from isthmus.types import MEDIA, Modality

SOURCES: list[Callable[..., PocketSource]] = [Describe, Draw, AnyToAny, Chat, Arithmetic]


def dialogues(source: PocketSource, count: int) -> list[Dialogue]:
    return [source.dialogue(index, source.random(index)) for index in range(count)]


def flat(conversation: Conversation) -> list[object]:
    return [
        (message.role, item.text)
        if isinstance(item, TextItem)
        else (message.role, item.modality, item.caption, getattr(item.media, "array", np.zeros(0)).tobytes())
        for message in conversation.messages
        for item in message.content
    ]


@pytest.mark.parametrize("build", SOURCES)
def test_an_item_is_a_function_of_the_settings_and_its_number(build: Callable[..., PocketSource]) -> None:
    source, again = build(seed=3), pickle.loads(pickle.dumps(build(seed=3)))
    assert [flat(source[i]) for i in (5, 0, 7)] == [flat(again[i]) for i in (5, 0, 7)]
    for other in (build(seed=4), build(split="test", seed=3)):
        assert [flat(source[i]) for i in range(6)] != [flat(other[i]) for i in range(6)]


def test_captions_are_what_an_answer_calls_a_medium() -> None:
    for index, dialogue in enumerate(dialogues(Captions(), 40)):
        (exchange,) = dialogue
        (shown,) = exchange.user
        assert isinstance(shown, Shown) and shown.modality is MEDIA[index % 4]
        assert exchange.assistant == (told(shown.known, shown.modality),)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("build", SOURCES)
def test_every_medium_follows_the_sentence_that_says_what_it_shows(
    build: Callable[..., PocketSource], split: str
) -> None:
    seen: Counter[Modality] = Counter()
    for dialogue in dialogues(build(split), 400):
        for exchange in dialogue:
            said = exchange.assistant
            for place, part in enumerate(said):
                if isinstance(part, Shown):
                    seen[part.modality] += 1
                    sentence = str(said[place - 1]).split(". ")[-1].strip()
                    forms = [form.format(told(part.concept, part.modality)) for form in HERE[part.modality]]
                    assert sentence in forms
                    assert part.concept == part.known  # nothing is promised that the medium can't show
                else:
                    # "Here is" is said where a medium follows, and nowhere else.
                    assert ("Here is" in part) == (place + 1 < len(said) and isinstance(said[place + 1], Shown))
            assert isinstance(said[0], str) and not said[0][0].islower()
            assert not re.search(r"\b[Aa] (8|eight)\b|[{}<>\[\]|]|  ", "".join(p for p in said if isinstance(p, str)))
    if build is Draw:
        assert set(seen) == set(MEDIA) and min(seen.values()) == 100


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("build", SOURCES)
def test_requests_are_whole_sentences_of_the_grammar(build: Callable[..., PocketSource], split: str) -> None:
    for dialogue in dialogues(build(split), 400):
        for exchange in dialogue:
            words = " ".join(part if isinstance(part, str) else "X" for part in exchange.user)
            assert words.strip()
            assert not re.search(r"[{}<>\[\]|]|\b[Aa] (8|eight)\b| me it\b", words), words


def test_requests_name_what_is_made_and_answers_name_nothing_else() -> None:
    spelled = {word: digit for digit, word in enumerate(DIGITS)} | {str(digit): digit for digit in range(10)}
    for dialogue in dialogues(Draw(), 600):
        (exchange,) = dialogue
        # Words that slipped while typing, and kinds such as "3D", name no digit.
        words = re.findall(r"three-\w+|[a-z]+|\d+(?!-?d)", "".join(map(str, exchange.user)).lower())
        (shown,) = (part for part in exchange.assistant if isinstance(part, Shown))
        # "one" may also be an article: "one red seven".
        assert {spelled[word] for word in words if word in spelled} <= {shown.concept.digit, 1}
        assert {word for word in words if word in COLOURS} <= {shown.concept.colour}
        assert {word for word in words if word in MOTIONS} <= {shown.concept.motion}


def test_media_of_the_user_are_drawn_and_those_of_answers_have_captions() -> None:
    conversation = next(c for i in range(5) if len((c := AnyToAny(inputs=["image"], outputs=["video"])[i]).messages))
    given = [i for m in conversation.messages if m.role == "user" for i in m.content if isinstance(i, MediumItem)]
    made = [i for m in conversation.messages if m.role == "assistant" for i in m.content if isinstance(i, MediumItem)]
    assert given[0].media is not None and given[0].caption is None
    assert made[0].media is None and made[0].caption is not None and made[0].modality is Modality.VIDEO


def test_wordings_of_a_split_are_its_own() -> None:
    def requests(split: str) -> set[str]:
        found = set()
        for dialogue in dialogues(Draw(split, size=3000), 3000):
            words = "".join(str(part) for part in dialogue[0].user).lower().strip(".!? ")
            found.add(words)
        return found

    train, validation, test = requests("train"), requests("validation"), requests("test")
    assert min(map(len, (train, validation, test))) > 2000
    assert not test & train and not validation & train and not test & validation


def test_chat_is_words_alone_but_for_what_was_asked_back() -> None:
    said = [exchange.assistant for dialogue in dialogues(Chat(), 600) for exchange in dialogue[:1]]
    assert all(len(parts) == 1 for parts in said)
    texts = Counter(str(parts[0]).split()[0] for parts in said)
    assert texts["I"] > 150  # "I can't ..."
    assert sum("?" in str(parts[0]) for parts in said) > 50


def test_sums_are_right() -> None:
    for dialogue in dialogues(Arithmetic(), 300):
        (exchange,) = dialogue
        shown = [part.concept.digit for part in exchange.user if isinstance(part, Shown)]
        made = [part for part in exchange.assistant if isinstance(part, Shown)]
        if len(shown) == 2:
            total = made[0].concept.digit if made else DIGITS.index(str(exchange.assistant[0]).split()[-1].rstrip("."))
            assert total == sum(shown)


def test_the_grammar_chooses_one_alternative_of_each_group_and_keeps_splits_apart() -> None:
    random = np.random.default_rng(0)
    assert {expand(random, "[e|b [c|d]|]!") for _ in range(200)} == {"e!", "b c!", "b d!", "!"}
    assert {expand(random, "a [{}|eight|two|orange {}]") for _ in range(200)} == {
        "a {}",
        "an eight",
        "a two",
        "an orange {}",
    }
    choices = Choices("one / two / two", "three", "four")
    drawn = Counter(choices.own(random, "train") for _ in range(3000))
    assert set(drawn) == {"one", "two"} and 1.7 < drawn["two"] / drawn["one"] < 2.4
    assert {choices.own(random, "test") for _ in range(50)} == {"four"}
    assert {choices.any(random, "validation") for _ in range(200)} == {"one", "two", "three"}
    assert put("draw me {}", "it") == "draw it" and put("draw me {}", "a two") == "draw me a two"
    assert told(Concept(8), Modality.POINTS) == "an eight" and told(Concept(8, "red"), Modality.POINTS) == "a red eight"


def test_an_adjective_decides_nothing() -> None:
    random, known = np.random.default_rng(0), set(ADJECTIVES.split("|"))
    of_digits, of_other_things = (
        {word for _ in range(3000) for word in choices.own(random, "train").split()} & known
        for choices in (NUMBER, SCENES)
    )
    assert of_digits == of_other_things == known
    held_out = {
        word for split in ("validation", "test") for template in NUMBER.reserved[split] for word in template.split()
    }
    assert {"big", "handwritten"} <= held_out and not held_out & known


def test_typing_keeps_media_and_their_order() -> None:
    random = np.random.default_rng(0)
    shown = Shown(Modality.IMAGE, Concept(3))
    turns = [typed(random, (shown, " draw the number"), "test") for _ in range(300)]
    assert all(turn[0] is shown and len(turn) == 2 for turn in turns)
    endings = Counter(str(turn[1])[-1] for turn in turns)
    assert endings["."] > endings["!"] > 0
    assert any(str(turn[1]).isupper() for turn in turns)


@pytest.mark.parametrize(("split", "share"), [("train", 0.15), ("validation", 0.06), ("test", 0.06)])
def test_training_mistypes_more_than_it_is_measured_on(split: Split, share: float) -> None:
    random = np.random.default_rng(0)
    turns = [str(typed(random, ("sculpt something lovely",), split)[0]) for _ in range(2000)]
    slipped = [turn for turn in turns if turn.lower().rstrip(".!") != "sculpt something lovely"]
    assert len(slipped) / len(turns) == pytest.approx(share, abs=0.02)


def test_matrix_cells_ask_in_the_splits_words_and_expect_what_both_modalities_show() -> None:
    cells = MatrixCells(per_cell=10)
    assert len(cells) == 10 * (25 + 3)
    for index in range(len(cells)):
        prompt = cells[index]
        details = prompt.details
        assert prompt.messages[-1].role == "user"
        given, _, output = details["cell"].partition("->")
        media = [i.modality for i in prompt.messages[0].content if isinstance(i, MediumItem)]
        assert media == [Modality(name) for name in given.split("+") if name != "text"]
        assert details["expect"]["digit"] == index % 10
        if {"audio"} & {given, output} or details["task"] == "arithmetic":
            assert details["expect"] == {"digit": index % 10, "colour": None, "motion": None}
        elif given == output == "video":
            assert None not in details["expect"].values()
        assert ("answer" in details) == (output == "text")
