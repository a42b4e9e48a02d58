"""METEOR 1.5, by the program of the COCO caption evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from isthmus.evaluation.captions.metrics import Words
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import require_answers
from isthmus.evaluation.metrics.texts.captions import CaptionMetrics
from isthmus.evaluation.metrics.texts.java import PACKAGE, toolkit
from isthmus.evaluation.predictions.answered import Answered


class Meteor(Metric):
    """``text/meteor``: words matched by form, stem, synonym and paraphrase, with a penalty on their order; English.

    It needs the extra ``metrics`` and Java. The figure is the program's own of the whole source, which isn't the mean
    over its answers: hence there are no scores of single ones. One process of a run computes it, in 2 GB. Source: M.
    Denkowski and A. Lavie, WMT 2014.

    Args:
        reference: the detail that holds a caption, or a list of them; the words of the expected message if None.
    """

    def __init__(self, reference: str | None = None) -> None:
        self.reference = reference

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figure of the whole source.

        Raises:
            ValueError: an answer has no reference, or the program isn't installed or fails.
        """
        require_answers(answers)
        toolkit()
        said, expected = CaptionMetrics(self.reference, "coco").words(answers, processes)
        [value] = processes.map(_measured, [(said, expected)], size=1, what="METEOR")
        protocol = {"reference": self.reference, "splitter": "coco", "library": f"{PACKAGE} {version(PACKAGE)}"}
        return {"text/meteor": Figure(value, len(answers), "higher", protocol=protocol)}


def _measured(works: Sequence[tuple[list[Words], list[list[Words]]]]) -> list[float]:
    return [meteor(said, expected) for said, expected in works]


def meteor(said: Sequence[Words], expected: Sequence[Sequence[Words]]) -> float:
    """METEOR of all texts together.

    Raises:
        ValueError: the program ended before it had answered.
    """
    from pycocoevalcap.meteor.meteor import Meteor as Program

    replies = {place: [_line(words)] for place, words in enumerate(said)}
    references = {place: [_line(words) for words in own] for place, own in enumerate(expected)}
    program = Program()
    try:
        return float(program.compute_score(references, replies)[0])
    except (ValueError, OSError) as error:  # a program that has ended answers with empty lines
        raise ValueError(
            "METEOR: found a program that ended before it had answered; expected a score. Fix: give it 2 GB of memory, "
            "and a version of Java from 8 on."
        ) from error


def _line(words: Words) -> str:
    """Words in one line of the program's protocol, in which three bars part its fields."""
    return " ".join(words).replace("|||", "")
