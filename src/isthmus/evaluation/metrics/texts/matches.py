"""Exact match, and ANLS, which forgives a few wrong letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal

from isthmus.evaluation.captions.metrics import split_words
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import mean_figure, require_answers, share_figure
from isthmus.evaluation.metrics.texts.references import references_of
from isthmus.evaluation.predictions.answered import Answered

Compared = Literal["words", "letters"]


class ExactMatch(Metric):
    """``text/exact_match``: the share of replies that equal a reference.

    Args:
        reference: the detail that holds a text, or a list of them; the words of the expected message if None.
        compared: ``words``: lower-case words without punctuation; ``letters``: all but the space around the text.
    """

    def __init__(self, reference: str | None = None, compared: Compared = "words") -> None:
        if compared not in ("words", "letters"):
            raise ValueError(f"compared: found {compared!r}; expected words or letters. Fix: choose one of them.")
        self.reference = reference
        self.compared = compared

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figure, with each answer's score.

        Raises:
            ValueError: an answer has no reference.
        """
        require_answers(answers)
        right = [
            any(self._form(answer.text) == self._form(one) for one in references_of(answer, self.reference))
            for answer in answers
        ]
        protocol = {"reference": self.reference, "normalisation": self.compared}
        return {"text/exact_match": share_figure(answers, right, protocol)}

    def _form(self, text: str) -> str | list[str]:
        return split_words(text) if self.compared == "words" else text.strip()


class Anls(Metric):
    """``text/anls``: the mean of 1 - edits / letters of the nearest reference, 0 where that is below ``threshold``.

    Texts are lower-case, with single spaces. Source: A. F. Biten et al., ICCV 2019, and the script of DocVQA.

    Args:
        reference: the detail that holds a text, or a list of them; the words of the expected message if None.
        threshold: the least likeness that counts.
    """

    def __init__(self, reference: str | None = "answers", threshold: float = 0.5) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold: found {threshold}; expected a number from 0 to 1. Fix: choose one.")
        self.reference = reference
        self.threshold = threshold

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figure, with each answer's score.

        Raises:
            ValueError: an answer has no reference.
        """
        require_answers(answers)
        scores = [anls(answer.text, references_of(answer, self.reference), self.threshold) for answer in answers]
        protocol = {
            "reference": self.reference,
            "threshold": self.threshold,
            "normalisation": "lower-case, single spaces",
            "library": f"torchmetrics {version('torchmetrics')}",
        }
        return {"text/anls": mean_figure(answers, scores, protocol)}


def anls(reply: str, references: Sequence[str], threshold: float = 0.5) -> float:
    """The likeness of one reply to the nearest of its references, from 0 to 1."""
    said = " ".join(reply.lower().split())
    expected = [" ".join(one.lower().split()) for one in references]
    edits = [letter_edits(said, one) for one in expected]
    longest = [max(len(said), len(one), 1) for one in expected]
    like = max(1 - one / most for one, most in zip(edits, longest, strict=True))
    return float(like) if like >= threshold else 0.0


def letter_edits(said: str, expected: str) -> int:
    """The least number of letters to insert, delete and replace that make one text of the other.

    It is counted by the character error rate, since torchmetrics' ``edit_distance`` looks only near the diagonal, as
    TER does, and finds too many edits where a block of letters is missing.
    """
    from torchmetrics.functional.text import char_error_rate

    # A rate over no letters isn't a number: each letter of the reply is then an edit.
    return round(float(char_error_rate(said, expected)) * len(expected)) if expected else len(said)
