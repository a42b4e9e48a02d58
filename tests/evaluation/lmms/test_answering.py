"""Answers to questions of lmms-eval's tasks, without the library."""

from __future__ import annotations

from dataclasses import replace

from isthmus.evaluation.lmms.answering import Answering, Question
from isthmus.evaluation.lmms.drawing import Drawing
from isthmus.inference.pipeline import Pipeline


def test_sampled_text_follows_from_the_question_not_from_its_place(opened: Pipeline) -> None:
    """A task that is answered batch by batch would otherwise get the same words for each repeat."""
    one = Question(lambda: [{"role": "user", "content": "what is it?"}], Drawing(6, 1.0), "a task", 7)
    again = replace(one, repeat=1)
    answering = Answering(opened.model)
    alone = [reply.text for own in (one, again) for _, reply in answering.replies([own])]
    turned = [reply.text for _, reply in answering.replies([again, one])]
    assert alone[0] != alone[1] and turned == alone[::-1]
