"""lmms-eval's ``generation_kwargs`` -> how an answer is drawn."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from isthmus.evaluation.lmms.drawing import LONGEST, Drawing


@pytest.mark.parametrize(
    ("given", "drawing"),
    [
        ({}, Drawing(LONGEST)),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False}, Drawing(16)),
        ({"max_gen_toks": 8, "temperature": 0.7, "do_sample": False}, Drawing(8)),
        ({"temperature": 0.7, "top_p": 0.9}, Drawing(LONGEST, 0.7, 0.9)),
        ({"do_sample": True, "top_p": None}, Drawing(LONGEST, 1.0)),
        ({"temperature": 0.7, "top_p": 0}, Drawing(LONGEST)),
        ({"until": "\n\n"}, Drawing(LONGEST)),
        ({"until": ["\n\n", "</s>", ""]}, Drawing(LONGEST, stops=("</s>",))),
        ({"until": None, "image_aspect_ratio": "original"}, Drawing(LONGEST)),
    ],
)
def test_what_tasks_give(given: dict[str, Any], drawing: Drawing) -> None:
    assert Drawing.read(given, "a task") == drawing


def test_ways_that_there_arent_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Drawing.read({"num_beams": 5, "top_k": 0}, "a task")
    assert "num_beams 5" in caplog.text and "top_k" not in caplog.text


def test_an_answer_ends_before_the_first_of_the_stops() -> None:
    drawing = Drawing(stops=("\n", "Q:"))
    assert drawing.cut("four Q: two\n") == "four "
    assert drawing.cut("\nfour") == ""
    assert drawing.cut("four") == "four"
