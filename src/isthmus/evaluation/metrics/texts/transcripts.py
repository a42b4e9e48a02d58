"""Word and character error rates of transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal

from isthmus.evaluation.captions.metrics import split_words
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.scores import by_id, ratio_figure, require_answers
from isthmus.evaluation.metrics.texts.matches import letter_edits
from isthmus.evaluation.metrics.texts.references import references_of
from isthmus.evaluation.predictions.answered import Answered

Normalisation = Literal["none", "words", "whisper"]


class WordErrors(Metric):
    """``text/wer`` and ``text/cer``: edits over words, and over characters, of all references together.

    A score is an answer's edits over the mean number of words of a reference, so that scores average to the rate. The
    edits are torchmetrics'; the rates equal jiwer's.

    Args:
        reference: the detail that holds the transcript; the words of the expected message if None.
        normalisation: of reply and reference. ``none``: only runs of spaces are made one, as in jiwer. ``words``:
            lower-case words without punctuation. ``whisper``: Whisper's for all languages, of transformers.
    """

    def __init__(self, reference: str | None = None, normalisation: Normalisation = "words") -> None:
        if normalisation not in ("none", "words", "whisper"):
            raise ValueError(
                f"normalisation: found {normalisation!r}; expected none, words or whisper. Fix: choose one of them."
            )
        self.reference = reference
        self.normalisation = normalisation

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, with each answer's share in them.

        Raises:
            ValueError: an answer has no reference, or no reference has words after normalisation.
        """
        require_answers(answers)
        said = [self._form(answer.text) for answer in answers]
        expected = [self._form(references_of(answer, self.reference)[0]) for answer in answers]
        if not any(expected):
            raise ValueError(
                f"references: found no words in any of {len(answers)} after normalisation {self.normalisation!r}; "
                "expected some. Fix: give transcripts, or choose another normalisation."
            )
        counted = processes.map(_edits, list(zip(said, expected, strict=True)), size=256, what="word errors")
        protocol = {
            "reference": self.reference,
            "normalisation": self.normalisation,
            "library": f"torchmetrics {version('torchmetrics')}",
        }
        words = [len(one.split()) for one in expected]
        letters = [len(one) for one in expected]
        return {
            "text/wer": _rate(answers, [word for word, _ in counted], words, protocol),
            "text/cer": _rate(answers, [letter for _, letter in counted], letters, protocol),
        }

    def _form(self, text: str) -> str:
        match self.normalisation:
            case "words":
                return " ".join(split_words(text))
            case "whisper":
                from transformers.models.whisper.english_normalizer import BasicTextNormalizer

                normalise = BasicTextNormalizer()
                return " ".join(str(normalise(text)).split())
            case _:
                return " ".join(text.split())


def _edits(pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """The word edits and the character edits of each pair of a reply and its reference."""
    from torchmetrics.functional.text import word_error_rate

    counted = []
    for said, expected in pairs:
        words = len(expected.split())
        # A rate over no words isn't a number: each word of the reply is then an edit.
        edits = round(float(word_error_rate(said, expected)) * words) if words else len(said.split())
        counted.append((edits, letter_edits(said, expected)))
    return counted


def _rate(
    answers: Sequence[Answered], edits: Sequence[int], wholes: Sequence[int], protocol: Mapping[str, str | None]
) -> Figure:
    figure = ratio_figure(edits, wholes, protocol, better="lower")
    scores = by_id(answers, [len(answers) * one / sum(wholes) for one in edits])
    return Figure(figure.value, figure.n, figure.better, figure.interval, scores, figure.protocol)
