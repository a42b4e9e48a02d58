"""The judge of answers: reads digit, colour and motion by their words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from isthmus.pocket.judges.base import Judge, Reading
from isthmus.pocket.world import COLOURS, DIGITS, MOTIONS, Concept, Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Modality

_WORD = re.compile(r"[a-z]+|[0-9]+")
_DIGITS = {word: digit for digit, word in enumerate(DIGITS)} | {str(digit): digit for digit in range(10)}
_MOTIONS = {word: name for name in MOTIONS for word in (name, f"{name}ward", f"{name}wards")}


class TextJudge(Judge[str]):
    """Reads digit, colour and motion by whole words, ignoring case; an attribute with two values is None."""

    modality = Modality.TEXT
    attributes = ("digit", "colour", "motion")

    def many(self, media: Sequence[str]) -> list[Reading]:
        """Reads one answer at a time."""
        return [self._read(answer) for answer in media]

    def _read(self, answer: str) -> Reading:
        words = _WORD.findall(answer.lower())
        found: dict[str, set[int | str]] = {
            "digit": {_DIGITS[word] for word in words if word in _DIGITS},
            "colour": {word for word in words if word in COLOURS},
            "motion": {_MOTIONS[word] for word in words if word in _MOTIONS},
        }
        return {name: values.pop() if len(values) == 1 else None for name, values in found.items()}

    def real(self, concept: Concept, split: Split, random: np.random.Generator, world: World = DRAWN) -> str:
        """The canonical caption of a video, which can say all attributes."""
        return concept.caption(Modality.VIDEO)
