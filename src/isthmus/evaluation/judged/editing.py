"""How well pictures were changed as asked: ImgEdit's marks and GEdit-Bench's VIEScore.

Sources: Ye et al., arXiv 2505.20275, ``Benchmark/Basic`` of https://github.com/PKU-YuanGroup/ImgEdit; Liu et al., arXiv
2504.17761, and VIEScore of Ku et al., arXiv 2312.14867.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path

from isthmus.data.formats.benchmarks.base import filled, read_json
from isthmus.evaluation.judged import rubrics
from isthmus.evaluation.judged.judge import OpenAIJudge, Question
from isthmus.evaluation.judged.scoring import (
    Judged,
    Marks,
    answered_picture,
    detail,
    given_picture,
    read_rubric,
)
from isthmus.evaluation.metrics.base import Figure
from isthmus.evaluation.predictions.answered import Answered

# A colon may be of full width, as models write it that think in Chinese.
_LINE = re.compile(r"^\W*([A-Za-z][\w &/-]*?)\W*[:\uff1a]\W*([1-5])\W*$", re.MULTILINE)
_OBJECT = re.compile(r"\{.*?\}", re.DOTALL)
MARKS = 3


class ImgEditScore(Judged):
    """Answers to :class:`isthmus.data.formats.benchmarks.ImgEdit`: the mean of three marks from 1 to 5.

    Figures: ``imgedit_<kind>``; ``imgedit``, the mean of the kinds' means, as published; ``imgedit_each``, the mean
    over edits; and ``imgedit_judged``.

    Args:
        judge: the paper's is ``gpt-4o``; others use ``gpt-4.1``, so that figures differ.
        verdicts: the file that keeps the judge's words.
        rubrics_file: the benchmark's ``prompts.json``, by kind of edit, each with ``<edit_prompt>``, for figures that
            are compared with published ones. The package's own words where none is given.

    Raises:
        ValueError: the file isn't of that form.
    """

    name = "imgedit"

    def __init__(self, judge: OpenAIJudge, verdicts: str | Path, rubrics_file: str | Path | None = None) -> None:
        words = {"": rubrics.EDIT}
        if rubrics_file is not None:
            path, told = read_json(rubrics_file)
            words = {str(kind): str(one) for kind, one in told.items()} if isinstance(told, dict) else {}
            if not words or any("<edit_prompt>" not in one for one in words.values()):
                raise ValueError(
                    f"{path}: found no rubrics with <edit_prompt> by kind of edit; expected ImgEdit's prompts.json. "
                    "Fix: give that file."
                )
        super().__init__(judge, verdicts, words)

    def questions(self, answer: Answered) -> list[Question]:
        prompt, kind = detail(answer, "prompt"), detail(answer, "edit_type")
        if "" in self.rubrics:
            words = filled(self.rubrics[""], "rubric", prompt=prompt, edit_type=kind)
        elif kind in self.rubrics:
            words = self.rubrics[kind].replace("<edit_prompt>", prompt)
        else:
            raise ValueError(
                f"rubrics_file: found no rubric for the kind {kind!r} of {answer.id}; expected one for each kind. Fix: "
                "give ImgEdit's own file."
            )
        return [Question(words, [given_picture(answer), answered_picture(answer)])]

    def marks(self, said: Sequence[str]) -> Marks | None:
        found = _LINE.findall(said[0])
        return {name.strip().lower(): float(mark) for name, mark in found} if len(found) == MARKS else None

    def lowest(self) -> Marks:
        return {"missing": 1.0}

    def figures(self, marks: Mapping[str, Marks], answers: Sequence[Answered]) -> Mapping[str, Figure]:
        scores = {name: sum(own.values()) / len(own) for name, own in marks.items()}
        kinds = self.by_group(scores, answers, "edit_type", "imgedit")
        return {"imgedit": self.mean_of_groups(kinds), "imgedit_each": self.mean(scores), **kinds}


class GEditScore(Judged):
    """Answers to :class:`isthmus.data.formats.benchmarks.GEditBench`, from 0 to 10.

    The judge gives two marks for what was changed and two for the picture's quality; of each pair the lower one counts.
    Figures: ``gedit_semantics``, ``gedit_quality`` and ``gedit_overall`` (the root of their product), each the mean of
    the eleven kinds' means, as published; ``gedit_each``, the mean of the overall marks; ``gedit_<kind>``; and
    ``gedit_judged``.

    Args:
        judge: the paper's is ``gpt-4.1``.
        verdicts: the file that keeps the judge's words.
        semantics: a text file with ``{prompt}``: VIEScore's words on two pictures. The package's own where none is
            given.
        quality: the same, on the result alone; without a placeholder.

    Raises:
        ValueError: a rubric can't be read, or lacks ``{prompt}``.
    """

    name = "gedit"

    def __init__(
        self,
        judge: OpenAIJudge,
        verdicts: str | Path,
        semantics: str | Path | None = None,
        quality: str | Path | None = None,
    ) -> None:
        words = {
            "semantics": rubrics.SEMANTICS if semantics is None else read_rubric(semantics),
            "quality": rubrics.QUALITY if quality is None else read_rubric(quality),
        }
        filled(words["semantics"], "semantics", prompt="")
        super().__init__(judge, verdicts, words)

    def questions(self, answer: Answered) -> list[Question]:
        made = answered_picture(answer)
        words = filled(self.rubrics["semantics"], "semantics", prompt=detail(answer, "prompt"))
        return [Question(words, [given_picture(answer), made]), Question(self.rubrics["quality"], [made])]

    def marks(self, said: Sequence[str]) -> Marks | None:
        pairs = [_pair(one) for one in said]
        if any(pair is None for pair in pairs):
            return None
        semantics, quality = (min(pair) for pair in pairs if pair is not None)
        return {"semantics": semantics, "quality": quality, "overall": sqrt(semantics * quality)}

    def lowest(self) -> Marks:
        return {"semantics": 0.0, "quality": 0.0, "overall": 0.0}

    def figures(self, marks: Mapping[str, Marks], answers: Sequence[Answered]) -> Mapping[str, Figure]:
        found: dict[str, Figure] = {}
        for aspect in ("semantics", "quality", "overall"):
            scores = {name: own[aspect] for name, own in marks.items()}
            kinds = self.by_group(scores, answers, "task_type", "gedit")
            found[f"gedit_{aspect}"] = self.mean_of_groups(kinds)
            if aspect == "overall":
                found |= {"gedit_each": self.mean(scores), **kinds}
        return found


def _pair(said: str) -> list[float] | None:
    """The two marks of a JSON object within a judge's words."""
    for piece in _OBJECT.findall(said):
        try:
            score = json.loads(piece).get("score")
            marks = [float(one) for one in score]
        except (ValueError, TypeError, AttributeError):
            continue
        if len(marks) == 2 and all(0 <= mark <= 10 for mark in marks):
            return marks
    return None
