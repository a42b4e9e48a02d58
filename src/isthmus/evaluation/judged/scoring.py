"""What judged benchmarks share: a question or several an answer, marks in the judge's words, and their means."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from isthmus.display.embedding import image_png
from isthmus.evaluation.intervals import bootstrap_interval, wilson_interval
from isthmus.evaluation.judged.judge import OpenAIJudge, Question, Unjudged
from isthmus.evaluation.judged.verdicts import Verdicts
from isthmus.evaluation.metrics.base import Figure, Processes
from isthmus.evaluation.predictions.answered import Answered, media_of
from isthmus.paths import user_path
from isthmus.types import Modality

_log = logging.getLogger(__name__)

TRIES = 2
"""Questions of which the judge's words hold no marks are asked so often."""
LARGEST = 2048
"""The longer side of pictures that are sent, in pixels; larger ones are shrunk."""

Marks = Mapping[str, float]
"""What a judge gave an answer, by aspect."""


class Judged(ABC):
    """A metric by a judge's verdicts.

    An answer without a picture has the lowest marks. One that couldn't be judged, after all tries, counts in no mean;
    ``judged`` is the share of the others, and running the evaluation again asks about these alone.

    Args:
        judge: who is asked.
        verdicts: the file that keeps the judge's words.
        rubrics: by name the words of a question.
    """

    rubrics: Mapping[str, str]
    """By name the words of a question."""
    name: str

    def __init__(self, judge: OpenAIJudge, verdicts: str | Path, rubrics: Mapping[str, str]) -> None:
        self.judge = judge
        self.verdicts = Verdicts(verdicts)
        self.rubrics = dict(rubrics)

    @abstractmethod
    def questions(self, answer: Answered) -> list[Question]:
        """What is asked about an answer with a picture.

        Raises:
            ValueError: it lacks a detail.
        """

    @abstractmethod
    def marks(self, said: Sequence[str]) -> Marks | None:
        """The marks in the judge's words, one text a question; None where they hold none."""

    @abstractmethod
    def lowest(self) -> Marks:
        """The marks of an answer without a picture."""

    @abstractmethod
    def figures(self, marks: Mapping[str, Marks], answers: Sequence[Answered]) -> Mapping[str, Figure]:
        """The figures of the answers that were judged, by metric.

        Args:
            marks: by answer.
            answers: these, in order.
        """

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """Asks the judge about each answer.

        Raises:
            ValueError: an answer lacks a detail, the judge can't be asked at all, or none could be judged.
        """
        self.verdicts.read()
        found = processes.map(self._judge, answers, 2 * self.judge.workers, what=f"judged by {self.judge.model}")
        judged = [(answer, own) for answer, (own, _) in zip(answers, found, strict=True) if own is not None]
        reasons = [reason for own, reason in found if own is None]
        if reasons and not processes.rank:
            _log.warning(
                "%s: %d of %d answers couldn't be judged (the first: %s); they count in no mean. Run the same again to "
                "ask about them once more.",
                self.name,
                len(reasons),
                len(answers),
                reasons[0],
            )
        if not judged:
            raise ValueError(
                f"{self.name}: found none of {len(answers)} answers judged ({reasons[0]}); expected some. Fix: see "
                f"that {self.judge.base_url} answers, and that the model can look at pictures."
            )
        marks = {answer.id: own for answer, own in judged}
        figures = dict(self.figures(marks, [answer for answer, _ in judged]))
        n = len(answers)
        share = Figure(len(judged) / n, n, "higher", wilson_interval(len(judged), n), None, self.protocol)
        return {f"image/{name}": figure for name, figure in {**figures, f"{self.name}_judged": share}.items()}

    @property
    def protocol(self) -> dict[str, Any]:
        """The judge, and the words of the questions with their hash."""
        told = {
            name: {"sha256": sha256(words.encode()).hexdigest(), "words": words} for name, words in self.rubrics.items()
        }
        return {**self.judge.protocol, "rubric": told, "largest": LARGEST}

    def mean(self, scores: Mapping[str, float]) -> Figure:
        """The mean over answers, with its interval."""
        values = list(scores.values())
        interval = bootstrap_interval(values)
        return Figure(sum(values) / len(values), len(values), "higher", interval, scores, self.protocol)

    def mean_of_groups(self, groups: Mapping[str, Figure]) -> Figure:
        """The mean of the groups' means, each counting alike."""
        values = [figure.value for figure in groups.values()]
        n = sum(figure.n for figure in groups.values())
        return Figure(sum(values) / len(values), n, "higher", None, None, self.protocol)

    def by_group(
        self, scores: Mapping[str, float], answers: Sequence[Answered], detail: str, name: str
    ) -> dict[str, Figure]:
        """The means of answers with the same detail, as ``name_detail``."""
        groups: dict[str, dict[str, float]] = {}
        for answer in answers:
            groups.setdefault(str(answer.details.get(detail)), {})[answer.id] = scores[answer.id]
        return {f"{name}_{_plain(group)}": self.mean(own) for group, own in sorted(groups.items())}

    def _judge(self, answers: Sequence[Answered]) -> list[tuple[Marks | None, str]]:
        with ThreadPoolExecutor(self.judge.workers) as pool:
            return list(pool.map(self._judge_one, answers))

    def _judge_one(self, answer: Answered) -> tuple[Marks | None, str]:
        """An answer's marks; or None, and the reason."""
        if not any(modality == Modality.IMAGE for modality, _ in answer.files):
            return self.lowest(), ""
        questions = self.questions(answer)
        reason = ""
        for place in range(TRIES):
            try:
                said = [self._said(question, answer, is_new=place > 0) for question in questions]
            except Unjudged as error:
                return None, str(error)
            own = self.marks(said)
            if own is not None:
                return own, ""
            reason = f"the judge's words hold no marks: {' '.join(said[0].split())[:80]!r}"
        return None, reason

    def _said(self, question: Question, answer: Answered, is_new: bool) -> str:
        key = question.key(self.judge.protocol)
        known = None if is_new else self.verdicts[key]
        if known is not None:
            return known
        said = self.judge.ask(question)
        self.verdicts.add(key, said, answer.id, self.judge.model)
        return said


def answered_picture(answer: Answered) -> bytes:
    """The answer's first picture, as a PNG file."""
    return image_png(answer.media(Modality.IMAGE)[0].array, LARGEST)


def given_picture(answer: Answered) -> bytes:
    """The picture that the prompt shows, as a PNG file.

    Raises:
        ValueError: it shows none.
    """
    for message in reversed(answer.prompt):
        if found := media_of(message, Modality.IMAGE):
            return image_png(found[0].array, LARGEST)
    raise ValueError(
        f"{answer.source}: {answer.id}: found no picture in the prompt; expected the one that was to be changed. Fix: "
        "give answers to the benchmark's own source."
    )


def detail(answer: Answered, name: str) -> str:
    """A detail of an answer's conversation.

    Raises:
        ValueError: it isn't there.
    """
    value = answer.details.get(name)
    if value is None:
        raise ValueError(
            f"{answer.source}: {answer.id}: found the details {', '.join(answer.details)[:200]}; expected {name!r}. "
            "Fix: give answers to the benchmark's own source."
        )
    return str(value)


def read_rubric(path: str | Path) -> str:
    """A rubric's file.

    Raises:
        ValueError: it isn't there, or isn't UTF-8.
    """
    place = user_path(path)
    try:
        return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"rubric {place}: can't be read ({error}); expected the judge's words as text. Fix: correct the path."
        ) from error


def _plain(name: str) -> str:
    return "_".join("".join(sign if sign.isalnum() else " " for sign in name.lower()).split())
