"""VQA accuracy: a reply against the answers of ten people, with the official normalisation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import mean_figure, require_answers
from isthmus.evaluation.metrics.texts.contractions import CONTRACTIONS
from isthmus.evaluation.metrics.texts.references import references_of
from isthmus.evaluation.predictions.answered import Answered

AGREEING = 3
"""People who gave an answer that counts as fully right."""
ARTICLES = ("a", "an", "the")
NUMBERS = {"none": "0"} | {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
MARKS = ';/[]"{}()=+\\_->@<`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_COMMA = re.compile(r"\d,\d")
PERIODS = 32
"""How many full stops are taken out at most: the official script passes a flag in the place of this number."""


class VqaAccuracy(Metric):
    """``text/vqa_accuracy``: the mean over people of min(1, others who gave this answer / 3).

    Normalised as the official script does: marks, articles, numbers as words and contractions of the reply; only marks
    of the people's answers, and these only where they differ. Sources: S. Antol et al., ICCV 2015; the script of
    https://visualqa.org/evaluation.html.

    Args:
        answers: the detail that holds the people's answers: texts, or mappings with ``answer``.
    """

    def __init__(self, answers: str = "answers") -> None:
        self.answers = answers

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figure, with each answer's score.

        Raises:
            ValueError: a conversation has no people's answers.
        """
        require_answers(answers)
        scores = [vqa_accuracy(answer.text, references_of(answer, self.answers)) for answer in answers]
        protocol = {"answers": self.answers, "normalisation": "VQA"}
        return {"text/vqa_accuracy": mean_figure(answers, scores, protocol)}


def vqa_accuracy(reply: str, people: Sequence[str]) -> float:
    """The accuracy of one reply, from 0 to 1.

    Args:
        reply: the model's.
        people: the answer of each, ten of them in the published sets.
    """
    said = normalised(" ".join(re.split(r"[\n\t]", reply)).strip())
    known = [without_marks(one) for one in people] if len(set(people)) > 1 else people
    matching = sum(one == said for one in known)
    return sum(min(1.0, (matching - (one == said)) / AGREEING) for one in known) / len(known)


def without_marks(text: str) -> str:
    """A mark is taken out if anywhere in the text it stands beside a space, or if a comma parts digits; else parted."""
    parted = text
    for mark in MARKS:
        beside = f"{mark} " in text or f" {mark}" in text or _COMMA.search(text) is not None
        parted = parted.replace(mark, "" if beside else " ")
    return _PERIOD.sub("", parted, count=PERIODS)


def normalised(text: str) -> str:
    """Without marks and articles, lower-case, numbers as digits, and contractions with their apostrophes."""
    words = (NUMBERS.get(word, word) for word in without_marks(text).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
