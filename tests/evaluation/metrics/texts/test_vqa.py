"""VQA accuracy by worked examples of the official rule, and its normalisation."""

from __future__ import annotations

import pytest
from tiny_answers import answered

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.texts.vqa import VqaAccuracy, normalised, vqa_accuracy, without_marks


@pytest.mark.parametrize(("agreeing", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_others_who_agree_count_a_third_each(agreeing: int, accuracy: float) -> None:
    people = ["red"] * agreeing + [f"colour {place}" for place in range(10 - agreeing)]
    assert vqa_accuracy("Red.", people) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("The  two dogs!", "2 dogs"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("cat/dog", "cat dog"),
        ("cat, dog", "cat dog"),
        ("1,000 (cats)", "1000 cats"),
        ("3.5 m.", "3.5 m"),
        ("she's", "she's"),
    ],
)
def test_replies_are_normalised_as_officially(said: str, words: str) -> None:
    assert normalised(said) == words


def test_people_keep_their_articles_and_agreeing_ones_their_marks() -> None:
    assert without_marks("a red-cat.") == "a red cat"
    assert vqa_accuracy("a cat", ["a cat"] * 5 + ["dog"] * 5) == 0  # the reply's article goes, theirs stays
    assert vqa_accuracy("red-cat", ["red-cat"] * 10) == 0  # the reply's mark goes, that of ten alike stays
    assert vqa_accuracy("red-cat", ["red-cat"] * 9 + ["cat"]) == 1


def test_the_figure_has_scores_and_takes_the_files_mappings() -> None:
    people = [{"answer": "yes", "answer_id": place} for place in range(10)]
    answers = [answered("yes", 0, answers=people), answered("no", 1, answers=["yes"] * 10)]
    figure = VqaAccuracy().measure(answers, Processes())["text/vqa_accuracy"]
    assert (figure.value, figure.n, figure.scores) == (0.5, 2, {"set/0": 1.0, "set/1": 0.0})
    with pytest.raises(ValueError, match="found no 'people' among answers"):
        VqaAccuracy("people").measure(answers, Processes())
