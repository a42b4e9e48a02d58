"""Yes or no: accuracy, precision, recall, F1 and the share of yes, as POPE reports them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import mean_figure, ratio_figure, require_answers, share_figure
from isthmus.evaluation.metrics.texts.references import references_of
from isthmus.evaluation.predictions.answered import Answered

DENIALS = ("No", "no", "not")


class YesNo(Metric):
    """``text/accuracy``, ``text/precision``, ``text/recall``, ``text/f1`` and ``text/yes_ratio`` of yes or no.

    Read as the official script does: of the reply's first sentence without commas, a word No, no or not makes it a no,
    and anything else, an empty reply too, is a yes. Source: Y. Li et al., EMNLP 2023, https://github.com/AoiDragon/POPE.

    Args:
        answer: the detail that holds yes or no; the words of the expected message if None.
    """

    def __init__(self, answer: str | None = "label") -> None:
        self.answer = answer

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures; accuracy with each answer's score.

        Raises:
            ValueError: a conversation's answer isn't yes or no.
        """
        require_answers(answers)
        said = [says_yes(answer.text) for answer in answers]
        expected = [_expected(answer, self.answer) for answer in answers]
        both = [one and other for one, other in zip(said, expected, strict=True)]
        protocol = {"answer": self.answer, "normalisation": "POPE"}
        right = [one == other for one, other in zip(said, expected, strict=True)]
        pairs = [int(one) + int(other) for one, other in zip(said, expected, strict=True)]
        return {
            "text/accuracy": share_figure(answers, right, protocol),
            "text/precision": ratio_figure(both, said, protocol),
            "text/recall": ratio_figure(both, expected, protocol),
            "text/f1": ratio_figure([2 * one for one in both], pairs, protocol),
            "text/yes_ratio": mean_figure(answers, [float(one) for one in said], protocol),
        }


def says_yes(reply: str) -> bool:
    """Whether a reply is read as a yes."""
    words = reply.split(".", maxsplit=1)[0].replace(",", "").split(" ")
    return not any(word in DENIALS for word in words)


def _expected(answer: Answered, detail: str | None) -> bool:
    found = references_of(answer, detail)[0].strip().rstrip(".").lower()
    if found not in ("yes", "no"):
        where = "the expected message" if detail is None else f"details.{detail}"
        raise ValueError(f"{answer.id}: {where}: found {found!r:.40}; expected yes or no. Fix: correct the record.")
    return found == "yes"
