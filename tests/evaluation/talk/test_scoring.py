"""Replies in plain conversation are scored by what they hold, show and say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_answers import pocket_judges

from isthmus.evaluation.talk.scoring import Judged, Wanted, judge_natural
from isthmus.model import Reply
from isthmus.pocket.world import Concept, draw
from isthmus.types import Media, Modality

RED_SEVEN, BLUE_TWO = Concept(7, "red"), Concept(2, "blue")


def drawn(modality: Modality, concept: Concept) -> Media:
    return draw(modality, concept, "test", np.random.default_rng(0))


@pytest.fixture(scope="module")
def judged(repository: Path) -> Any:
    judges = pocket_judges(repository)

    def one(details: dict[str, Any], *content: str | Media) -> Judged:
        return judge_natural([Wanted.of(details)], [Reply(list(content))], judges)[0]

    return one


def test_exactly_the_media_asked_for(judged: Any) -> None:
    asked = {"kind": "make", "media": ["image"], "expect": [{"digit": 7, "colour": "red", "motion": None}]}
    red, blue = drawn(Modality.IMAGE, RED_SEVEN), drawn(Modality.IMAGE, BLUE_TWO)
    good = judged(asked, "Here is a red seven.", red)
    assert (good.intent, good.attributes, good.right) == (True, True, True)
    other = judged(asked, "Here is a red seven.", blue)
    assert (other.intent, other.attributes, other.right) == (True, False, False)
    for content in (["A red seven."], [red, red], [red, drawn(Modality.AUDIO, RED_SEVEN)]):
        wrong = judged(asked, *content)
        assert (wrong.intent, wrong.attributes, wrong.right) == (False, None, False)


def test_several_media_are_matched_in_their_order(judged: Any) -> None:
    expect = [{"digit": 7, "colour": "red"}, {"digit": 2, "colour": "blue"}, {"digit": 2}]
    asked = {"kind": "two", "media": ["image", "image", "audio"], "expect": expect}
    red, blue = drawn(Modality.IMAGE, RED_SEVEN), drawn(Modality.IMAGE, BLUE_TWO)
    tone = drawn(Modality.AUDIO, BLUE_TWO)
    assert judged(asked, red, tone, blue).right, "media of different kinds may come in another order"
    turned = judged(asked, blue, red, tone)
    assert turned.intent and turned.attributes is False


@pytest.mark.parametrize(
    ("details", "said", "right"),
    [
        ({"kind": "words"}, "A drawing is made of lines.", True),
        ({"kind": "words"}, "  ", False),
        ({"kind": "decline"}, "I can't draw cats. I draw digits.", True),
        ({"kind": "decline"}, "I can\N{RIGHT SINGLE QUOTATION MARK}t draw cats.", True),
        ({"kind": "decline"}, "Here is a cat.", False),
        ({"kind": "ask_back"}, "Which digit shall I draw?", True),
        ({"kind": "ask_back"}, "A digit.", False),
        ({"kind": "sum", "answer": "five"}, "Two plus three is Five.", True),
        ({"kind": "sum", "answer": "five"}, "Twenty-five apples and fiver", True),
        ({"kind": "sum", "answer": "five"}, "Two plus three is six.", False),
        ({"kind": "digit", "expect": [{"digit": 7}]}, "You said seven.", True),
        ({"kind": "digit", "expect": [{"digit": 7}]}, "You said seven or two.", False),
    ],
)
def test_words_where_words_were_asked_for(details: dict[str, Any], said: str, right: bool, judged: Any) -> None:
    assert judged({**details, "media": []}, said).right is right
    assert not judged({**details, "media": []}, said, drawn(Modality.IMAGE, RED_SEVEN)).right


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"media": []}, r"prompt x: details.kind: found None"),
        ({"kind": "make"}, r"details.media: found None; expected a list of image"),
        ({"kind": "make", "media": ["song"]}, r"details.media: found \['song'\]"),
        ({"kind": "make", "media": ["image"], "expect": [{}, {}]}, r"a mapping of attributes for each of 1 media"),
        ({"kind": "make", "media": [], "expect": ["seven"]}, r"details.expect: found \['seven'\]"),
    ],
)  # fmt: skip
def test_incomplete_details_are_told(details: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wanted.of({"id": "x", **details})


def test_an_attribute_that_no_judge_reads_is_told(repository: Path) -> None:
    wanted = Wanted.of({"kind": "make", "media": ["audio"], "expect": [{"colour": "red"}]})
    replies = [Reply([drawn(Modality.AUDIO, RED_SEVEN)])]
    with pytest.raises(ValueError, match=r"judges.audio: reads digit; expected colour too"):
        judge_natural([wanted], replies, pocket_judges(repository))
    with pytest.raises(ValueError, match="judges: found none; expected one for audio"):
        judge_natural([wanted], replies, {})
