"""Exact match and ANLS."""

from __future__ import annotations

import random

import pytest
from tiny_answers import answered

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.texts.matches import Anls, ExactMatch, anls, letter_edits


def test_exact_match_by_words_and_by_letters() -> None:
    answers = [answered("A cat.", 0, "a cat"), answered("dog", 1, "dog"), answered("", 2, "cow")]
    assert ExactMatch().measure(answers, Processes())["text/exact_match"].value == pytest.approx(2 / 3)
    figure = ExactMatch(compared="letters").measure(answers, Processes())["text/exact_match"]
    assert figure.scores == {"set/0": 0, "set/1": 1, "set/2": 0} and figure.protocol["normalisation"] == "letters"
    several = [answered("42", answers=["forty-two", 42])]
    assert ExactMatch("answers").measure(several, Processes())["text/exact_match"].value == 1


@pytest.mark.parametrize(
    ("said", "expected", "score"),
    [
        ("Coca  Cola", ["coca cola"], 1.0),
        ("coca-cola", ["pepsi", "coca cola"], 1 - 1 / 9),
        ("cat", ["caat"], 0.75),
        ("ab", ["abcd"], 0.5),
        ("ab", ["abcde"], 0.0),
        ("", ["a"], 0.0),
    ],
)
def test_anls_by_worked_examples(said: str, expected: list[str], score: float) -> None:
    assert anls(said, expected) == pytest.approx(score)
    figure = Anls().measure([answered(said, answers=expected)], Processes())["text/anls"]
    assert figure.value == pytest.approx(score) and figure.protocol["threshold"] == 0.5


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="compared: found 'bytes'"):
        ExactMatch(compared="bytes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold: found 2"):
        Anls(threshold=2)


@pytest.mark.parametrize("start", [0, 40, 120])
def test_a_missing_block_costs_its_letters_and_no_more(start: int) -> None:
    whole = "".join(random.Random(0).choice("abcdefgh ") for _ in range(180))
    parted = whole[:start] + whole[start + 60 :]
    assert letter_edits(parted, whole) == letter_edits(whole, parted) == _by_table(parted, whole) == 60
    assert letter_edits("abc", "") == 3 and letter_edits("", "abc") == 3 and letter_edits("", "") == 0
    assert anls(whole.strip(), [whole.strip(), "no"]) == 1 and anls("abc", [""]) == 0


def _by_table(one: str, other: str) -> int:
    """The edit distance by the full table of its definition."""
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, start=1):
        above, row = row, [at]
        for column, own in enumerate(other):
            row.append(min(above[column + 1] + 1, row[column] + 1, above[column] + (letter != own)))
    return row[-1]
