"""Yes and no: what a reply is read as, and POPE's figures against scikit-learn's."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from tiny_answers import answered

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.texts.yes_no import YesNo, says_yes


def test_replies_are_read_as_officially() -> None:
    assert all(map(says_yes, ["Yes.", "yes, there is", "", "Yes. No dog", "NO", "nothing"]))
    assert not any(map(says_yes, ["No", "no, it is", "There is not a dog", "it's no."]))


def test_figures_equal_scikit_learns() -> None:
    draw = random.Random(0)
    said, expected = ([draw.random() < 0.6 for _ in range(50)] for _ in range(2))
    answers = [
        answered("Yes" if one else "No", place, label="yes" if other else "no")
        for place, (one, other) in enumerate(zip(said, expected, strict=True))
    ]
    figures = YesNo().measure(answers, Processes())
    precision, recall, f1, _ = precision_recall_fscore_support(expected, said, average="binary")
    values = [figures[f"text/{name}"].value for name in ("accuracy", "precision", "recall", "f1", "yes_ratio")]
    assert values == pytest.approx([accuracy_score(expected, said), precision, recall, f1, sum(said) / 50])
    for figure in figures.values():
        assert figure.interval is not None and figure.interval[0] < figure.value < figure.interval[1]


def test_where_nothing_is_a_yes_figures_are_zero() -> None:
    figures = YesNo(None).measure([answered("no", 0, "no"), answered("no", 1, "No.")], Processes())
    assert figures["text/accuracy"].value == 1
    assert figures["text/f1"].value == 0 and figures["text/f1"].interval == (0, 0)


def test_another_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set/0: details\.label: found 'maybe'; expected yes or no"):
        YesNo().measure([answered("no", label="maybe")], Processes())
