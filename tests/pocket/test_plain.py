"""Requests to the embedded model in other wordings: digits are made, and all else is answered in words."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from isthmus.pocket.dialogues import DONE, Shown
from isthmus.pocket.language import SMALL_TALK
from isthmus.pocket.plain import SKILLS, in_words, paraphrased
from isthmus.pocket.tasks import AnyToAny, TextOnly
from isthmus.pocket.world import DIGITS, Split


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_digits_are_made_as_they_are_asked_for(split: Split) -> None:
    random = np.random.default_rng(0)
    for output in tuple(DONE) * 60:
        exchange = paraphrased(random, output, split)
        words = re.findall(r"[a-z]+|\d+(?!d)", str(exchange.user[0]))
        told, shown = exchange.assistant
        assert isinstance(shown, Shown) and shown.modality is output and told == f"{shown.caption}, {DONE[output]}"
        assert DIGITS[shown.concept.digit] in words or str(shown.concept.digit) in words
        assert shown.concept.colour is None or shown.concept.colour in words
        assert shown.concept.motion is None or shown.concept.motion in words


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_all_else_is_answered_in_words_of_small_talk(split: Split) -> None:
    random = np.random.default_rng(0)
    exchanges = [in_words(random, split) for _ in range(300)]
    answers = Counter(exchange.assistant for exchange in exchanges)
    assert {said for (said,) in answers} == {said for _, said in SMALL_TALK}
    assert not any(re.search(r"[{}<>|\[\]]", str(exchange.user[0])) for exchange in exchanges)
    assert answers[SKILLS,] > 150


def test_training_has_them_among_its_sources() -> None:
    text, any_to_any = TextOnly(), AnyToAny(inputs=["text"], outputs=["image"])
    said = [text.dialogue(i, text.random(i))[0].assistant[0] for i in range(300)]
    assert said.count(SKILLS) > 40
    asked = [str(any_to_any.dialogue(i, any_to_any.random(i))[0].user[0]) for i in range(300)]
    assert sum("can you" in words for words in asked) > 5
    assert not any("can you" in str(TextOnly("test").dialogue(i, text.random(i))[0].user[0]) for i in range(50))


def test_prompts_are_held_out_by_template() -> None:
    def prompts(split: Split) -> set[str]:
        random = np.random.default_rng(0)
        made = [paraphrased(random, tuple(DONE)[i % 4], split) for i in range(800)]
        return {str(exchange.user[0]).lower() for exchange in [*made, *(in_words(random, split) for _ in range(800))]}

    train, validation, test = prompts("train"), prompts("validation"), prompts("test")
    assert not train & test and not train & validation and not validation & test
