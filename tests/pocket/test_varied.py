"""Answers that vary: courtesies, and colours where they are open."""

from __future__ import annotations

from collections import Counter

import pytest

from isthmus.pocket.dialogues import Dialogue, Shown
from isthmus.pocket.language import spoken
from isthmus.pocket.tasks import AnyToAny
from isthmus.pocket.varied import COURTESIES, VariedAnswers
from isthmus.pocket.world import COLOURS
from isthmus.types import Modality


def dialogues(source: AnyToAny) -> list[Dialogue]:
    return [source.dialogue(index, source.random(index)) for index in range(len(source))]


def made(dialogue: Dialogue) -> list[Shown]:
    return [
        part
        for exchange in dialogue
        for part in exchange.assistant
        if isinstance(part, Shown) and part.modality is not Modality.TEXT
    ]


def test_answers_vary_and_say_what_they_make() -> None:
    begun, chosen = Counter(), Counter()
    for dialogue in dialogues(VariedAnswers(size=600)):
        for exchange in dialogue:
            answer = spoken(exchange.assistant)
            has_media = any(isinstance(p, Shown) and p.modality is not Modality.TEXT for p in exchange.user)
            courtesy = next((words for words in COURTESIES if answer.startswith(words)), "")
            begun[courtesy] += 1
            assert not courtesy or has_media or made((exchange,))
            for shown in made((exchange,)):
                assert shown.caption in answer
        if len(dialogue) == 1 and "colour" not in spoken(dialogue[0].user):
            asked = spoken(dialogue[0].user)
            for shown in made(dialogue):
                if shown.modality is not Modality.AUDIO:
                    assert shown.concept.colour  # every open colour is chosen
                    if not any(colour in asked for colour in COLOURS):
                        chosen[shown.concept.colour] += 1
    assert all(begun[words] > 60 for words in COURTESIES) and begun[""] > 300
    assert set(chosen) == set(COLOURS) and min(chosen.values()) > 5


def test_two_media_of_one_answer_have_one_colour() -> None:
    both = [made(dialogue) for dialogue in dialogues(VariedAnswers(size=1500)) if len(dialogue) == 1]
    pairs = [media for media in both if len(media) == 2 and all(m.modality is not Modality.AUDIO for m in media)]
    assert len(pairs) > 5
    assert all(first.concept.colour == second.concept.colour for first, second in pairs)


def test_shares_of_none_leave_the_answers_as_they_are() -> None:
    plain, varied = AnyToAny(size=200, seed=3), VariedAnswers(size=200, seed=3, courteous=0.0, coloured=0.0)
    for index in range(200):
        assert plain.dialogue(index, varied.random(index)) == varied.dialogue(index, varied.random(index))


@pytest.mark.parametrize("share", [{"courteous": 1.5}, {"coloured": -0.1}])
def test_shares_outside_0_to_1_are_refused(share: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"varied.{next(iter(share))}: found .* expected a share"):
        VariedAnswers(**share)  # type: ignore[arg-type]
