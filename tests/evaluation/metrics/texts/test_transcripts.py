"""Error rates equal jiwer's, and scores average to them."""

from __future__ import annotations

import random

import jiwer
import pytest
from tiny_answers import answered

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.texts.transcripts import WordErrors


def test_rates_equal_jiwers() -> None:
    draw = random.Random(0)
    words = "the cat's mat, on a red red sea".split()
    said, expected = ([" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(30)] for _ in range(2))
    said[3] = ""
    answers = [
        answered(f" {one} ", place, other) for place, (one, other) in enumerate(zip(said, expected, strict=True))
    ]
    figures = WordErrors(normalisation="none").measure(answers, Processes())
    assert figures["text/wer"].value == pytest.approx(jiwer.wer(expected, said), abs=1e-12)
    assert figures["text/cer"].value == pytest.approx(jiwer.cer(expected, said), abs=1e-12)
    for figure in figures.values():
        assert figure.better == "lower" and figure.scores is not None and figure.interval is not None
        assert sum(figure.scores.values()) / 30 == pytest.approx(figure.value)
        assert figure.interval[0] < figure.value < figure.interval[1]


def test_normalisations() -> None:
    answers = [answered("Hello, (um) World!", 0, "hello world")]
    rates = {
        way: WordErrors(normalisation=way).measure(answers, Processes())["text/wer"].value  # type: ignore[arg-type]
        for way in ("none", "words", "whisper")
    }
    assert rates == {"none": 1.5, "words": 0.5, "whisper": 0.0}


def test_words_where_none_are_expected_are_errors() -> None:
    answers = [answered("oh", 0, text_="..."), answered("a b", 1, text_="a b")]
    figures = WordErrors("text_").measure(answers, Processes())
    assert figures["text/wer"].value == 0.5 and figures["text/wer"].scores == {"set/0": 1.0, "set/1": 0.0}
    with pytest.raises(ValueError, match="references: found no words in any of 1 after normalisation"):
        WordErrors("text_").measure(answers[:1], Processes())
    with pytest.raises(ValueError, match="normalisation: found 'upper'"):
        WordErrors(normalisation="upper")  # type: ignore[arg-type]
