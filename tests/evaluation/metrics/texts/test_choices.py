"""Multiple choice and open questions, read as MMMU's official script does."""

from __future__ import annotations

import pytest
from tiny_answers import answered

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.texts.choices import MultipleChoice, letter_of
from isthmus.evaluation.metrics.texts.open_answers import answers_openly

CHOICES = {"A": "a cat", "B": "a dog", "C": "a cat fish"}


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(A) or rather (C)", "C"),
        ("A cat? no, (B)", "B"),
        ("Answer A not B then", "B"),
        ("I am sure that it is A DOG there", "A"),  # a letter between spaces comes before the choice's words
        ("i am quite sure that it is a dog", "B"),
        ("surely it must be a cat fish there", "A"),  # both begin there, and the first one listed wins
        ("a dog", None),  # too short for a choice's words
        ("", None),
    ],
)
def test_the_letter_that_a_reply_names(reply: str, letter: str | None) -> None:
    assert letter_of(reply, CHOICES) == letter


@pytest.mark.parametrize(
    ("reply", "expected", "right"),
    [
        ("so the result is 3.14159", ["3.14"], True),
        ("It costs 1,000 in all", ["1000"], True),
        ("the answer is blue whale", ["Blue"], True),
        ("x = 7", ["7.0"], True),
        ("is 5\nthus 6", ["5"], True),
        ("the answer is ab", ["b"], False),
        ("", ["5"], False),
    ],
)
def test_open_answers(reply: str, expected: list[str], right: bool) -> None:
    assert answers_openly(reply, expected) is right


def test_figures_count_what_is_read_and_draw_the_rest() -> None:
    listed = list(CHOICES.values())
    answers = [answered("(B)", 0, choices=listed, answer="B"), answered("5", 1, choices=[], answer="5")]
    answers += [answered("hm", place, choices=listed, answer="A") for place in range(2, 302)]
    figures = MultipleChoice().measure(answers, Processes())
    assert figures["text/letters_read"].value == pytest.approx(1 / 301) and figures["text/letters_read"].n == 301
    assert 0.25 < figures["text/accuracy"].value < 0.42  # chance is a third
    assert figures == MultipleChoice().measure(answers, Processes())
    open_alone = MultipleChoice().measure(answers[1:2], Processes())
    assert list(open_alone) == ["text/accuracy"] and open_alone["text/accuracy"].value == 1


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match=r"details\.answer: found 'D'; expected one of A, B"):
        MultipleChoice().measure([answered("A", choices=["x", "y"], answer="D")], Processes())
    with pytest.raises(ValueError, match=r"details\.choices: found 'x'; expected a list"):
        MultipleChoice().measure([answered("A", choices="x", answer="A")], Processes())
