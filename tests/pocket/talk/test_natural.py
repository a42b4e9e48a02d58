"""Natural requests: other wordings than training's, and expectations that agree with what they name."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from isthmus.data.conversations.schema import MediumItem, TextItem
from isthmus.pocket.talk import AnyToAny, Chat, Draw, NaturalRequests
from isthmus.pocket.talk.natural import natural_lines
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS
from isthmus.types import Modality

SPELLED = {word: digit for digit, word in enumerate(DIGITS)} | {str(digit): digit for digit in range(10)}


def request_of(source: NaturalRequests, index: int) -> str:
    return "".join(item.text for item in source[index].messages[-1].content if isinstance(item, TextItem)).strip()


def test_there_are_enough_lines_of_every_kind_and_validation_has_its_own() -> None:
    test, validation = natural_lines("test"), natural_lines("validation")
    assert len(test) >= 280 and len(NaturalRequests()) >= 300
    assert not {line.text for line in test} & {line.text for line in validation}
    kinds = Counter(line.kind for line in test)
    assert min(kinds.values()) >= 5 and min(kinds["decline"], kinds["words"]) >= 50 and kinds["make"] >= 100
    assert set(kinds) >= {line.kind for line in validation}
    with pytest.raises(ValueError, match=r"found 'train'; expected validation or test.* Fix: "):
        NaturalRequests("train")


def test_expectations_are_what_the_request_names() -> None:
    source = NaturalRequests(size=500)
    for index in range(len(source)):
        prompt, line = source[index], source.line(index)
        details = prompt.details
        assert details["task"] == "natural" and details["media"] == [str(modality) for modality in line.media]
        assert len(details["expect"]) == (len(line.media) or bool(line.says))
        words = re.findall(r"[a-z]+|\d+(?!d)", request_of(source, index).lower())
        colours = [word for word in words if word in COLOURS]
        digits = [SPELLED[word] for word in words if word in SPELLED]
        media = [item.modality for item in prompt.messages[-1].content if isinstance(item, MediumItem)]
        assert media == ([line.given] if line.given else [])
        assert len(prompt.messages) == (3 if line.after else 1) and prompt.messages[-1].role == "user"
        for modality, expected in zip(details["media"], details["expect"], strict=False):
            if line.kind in ("make", "two"):
                assert expected["digit"] in digits
                assert expected["colour"] in ([*colours] if "{c" in line.text and modality != "audio" else [None])
                assert (expected["motion"] is not None) == ("{m}" in line.text and modality == "video")
                assert expected["motion"] is None or any(word.startswith(expected["motion"]) for word in words)
            if line.kind == "sum_made":
                assert expected == {"digit": sum(digits[-2:]), "colour": None, "motion": None}
        if line.kind == "sum":
            assert details["answer"] == DIGITS[sum(digits)]
        if line.says:
            assert {name for name, value in details["expect"][0].items() if value is not None} == set(line.says)


def test_later_turns_change_what_was_made_before() -> None:
    lines = natural_lines("test")
    places = [i for i, line in enumerate(lines) if line.change == "colour" and line.after is Modality.VIDEO]
    for seed in range(20):
        source = NaturalRequests(seed=seed)
        prompt = source[places[0]]
        (made,) = (item for item in prompt.messages[1].content if isinstance(item, MediumItem))
        (expected,) = prompt.details["expect"]
        assert made.caption is not None and expected["colour"] in request_of(source, places[0])
        assert DIGITS[expected["digit"]] in made.caption
        assert expected["motion"] is None or made.caption.endswith(expected["motion"])


def test_no_wording_of_training_is_among_them() -> None:
    def shape(text: str) -> str:
        """A request without what it names."""
        words = re.findall(r"[a-z']+|\d+", text.lower())
        named = {**dict.fromkeys((*COLOURS, *MOTIONS), "_"), **dict.fromkeys(SPELLED, "_")}
        return " ".join(named.get(word, word) for word in words if word not in ("a", "an"))

    trained = set()
    for source in (Draw(size=20_000), Chat(size=10_000), AnyToAny(size=20_000)):
        for index in range(len(source)):
            for exchange in source.dialogue(index, source.random(index)):
                trained.add(shape("".join(part for part in exchange.user if isinstance(part, str))))
    random = np.random.default_rng(0)
    for split in ("validation", "test"):
        for line in natural_lines(split):
            text = line.text
            for place, known in (("{n}", DIGITS), ("{n2}", DIGITS), ("{c}", COLOURS), ("{c2}", COLOURS)):
                text = text.replace(place, known[random.integers(len(known))])
            assert shape(text.replace("{m}", "left")) not in trained, line.text
