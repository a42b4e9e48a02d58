"""BLEU, ROUGE-L and CIDEr-D of captions, as the COCO caption evaluation defines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal

from isthmus.evaluation.captions.metrics import ORDER, Words, bleu, cider, rouge_l, split_words
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import mean_figure, require_answers
from isthmus.evaluation.metrics.texts.java import coco_words
from isthmus.evaluation.metrics.texts.references import all_references
from isthmus.evaluation.predictions.answered import Answered

Splitter = Literal["plain", "coco"]


class CaptionMetrics(Metric):
    """``text/bleu_1`` to ``text/bleu_4``, ``text/rouge_l`` and ``text/cider_d`` of replies against captions.

    Args:
        reference: the detail that holds a caption, or a list of them; the words of the expected message if None.
        splitter: how texts become words. ``plain`` needs nothing, and splits scripts without spaces by characters.
            ``coco`` is the COCO evaluation's own splitter, a Java program in the extra ``metrics``; take it for
            figures that stand beside published ones.
    """

    def __init__(self, reference: str | None = None, splitter: Splitter = "plain") -> None:
        if splitter not in ("plain", "coco"):
            raise ValueError(f"splitter: found {splitter!r}; expected plain or coco. Fix: choose one of them.")
        self.reference = reference
        self.splitter = splitter

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """Figures of the whole source; CIDEr-D counts how rare an n-gram is among this source's references.

        Raises:
            ValueError: an answer has no reference, or the splitter isn't installed.
        """
        require_answers(answers)
        said, expected = self.words(answers, processes)
        protocol = {"reference": self.reference, "splitter": self.splitter}
        own = {"library": f"torchmetrics {version('torchmetrics')}"}
        figures = {
            f"text/bleu_{order}": Figure(score, len(answers), "higher", protocol=protocol | own)
            for order, score in zip(range(1, ORDER + 1), bleu(said, expected), strict=True)
        }
        figures["text/rouge_l"] = mean_figure(answers, rouge_l(said, expected), protocol)
        figures["text/cider_d"] = mean_figure(answers, cider(said, expected), protocol)
        return figures

    def words(self, answers: Sequence[Answered], processes: Processes) -> tuple[list[Words], list[list[Words]]]:
        """The words of each reply, and of each of its references.

        Raises:
            ValueError: an answer has no reference, or the splitter isn't installed.
        """
        references = all_references(answers, self.reference)
        texts = [answer.text for answer in answers] + [one for own in references for one in own]
        if self.splitter == "plain":
            split = [split_words(text) for text in texts]
        else:
            split = processes.map(coco_words, texts, size=len(texts), what="splitting captions")
        rest = iter(split[len(answers) :])
        return split[: len(answers)], [[next(rest) for _ in own] for own in references]
