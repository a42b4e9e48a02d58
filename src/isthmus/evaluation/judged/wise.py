"""WiScore: whether a picture shows what a prompt means that takes knowledge of the world.

Source: Niu et al., arXiv 2503.07265.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from isthmus.data.formats.benchmarks.base import filled
from isthmus.evaluation.judged import rubrics
from isthmus.evaluation.judged.judge import OpenAIJudge, Question
from isthmus.evaluation.judged.scoring import Judged, Marks, answered_picture, detail, read_rubric
from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.predictions.answered import Answered

WEIGHTS = {"consistency": 7, "realism": 2, "aesthetic_quality": 1}
HIGHEST = 2 * sum(WEIGHTS.values())

_LINE = re.compile(r"(Consistency|Realism|Aesthetic[ _]Quality)\W*?[:\uff1a]\W*([0-2])(?!\.?\d)", re.IGNORECASE)


class WiScore(Judged):
    """Answers to :class:`isthmus.data.formats.benchmarks.WISE`: (0.7 consistency + 0.2 realism + 0.1 aesthetics) / 2.

    Figures: ``wise`` over all prompts, which weighs the six categories as the paper does since they are of these sizes;
    ``wise_<category>``; the three aspects from 0 to 2; and ``wise_judged``.

    Args:
        judge: the paper's is ``gpt-4o-2024-05-13``.
        verdicts: the file that keeps the judge's words.
        rubric: a text file with ``{prompt}`` and ``{explanation}``: the words of ``gpt_eval.py``, for figures that are
            compared with published ones. The package's own where none is given.

    Raises:
        ValueError: the rubric can't be read, or lacks a placeholder.
    """

    name = "wise"

    def __init__(self, judge: OpenAIJudge, verdicts: str | Path, rubric: str | Path | None = None) -> None:
        words = rubrics.WISE if rubric is None else read_rubric(rubric)
        filled(words, "rubric", prompt="", explanation="")
        super().__init__(judge, verdicts, {"wise": words})

    def questions(self, answer: Answered) -> list[Question]:
        known = {name: detail(answer, name) for name in ("prompt", "explanation")}
        return [Question(filled(self.rubrics["wise"], "rubric", **known), [answered_picture(answer)])]

    def marks(self, said: Sequence[str]) -> Marks | None:
        found = {name.lower().replace(" ", "_"): float(mark) for name, mark in _LINE.findall(said[0])}
        return found if found.keys() == WEIGHTS.keys() else None

    def lowest(self) -> Marks:
        return dict.fromkeys(WEIGHTS, 0.0)

    def figures(self, marks: Mapping[str, Marks], answers: Sequence[Answered]) -> Mapping[str, Figure]:
        scores = {
            name: sum(weight * own[aspect] for aspect, weight in WEIGHTS.items()) / HIGHEST
            for name, own in marks.items()
        }
        by_aspect = {aspect: {name: own[aspect] for name, own in marks.items()} for aspect in WEIGHTS}
        aspects = {f"wise_{aspect}": self.mean(own) for aspect, own in by_aspect.items()}
        return {"wise": self.mean(scores), **aspects, **self.by_group(scores, answers, "category", "wise")}
