"""Features of made and of real media side by side, and what a distance between them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from isthmus.evaluation.metrics.base import Figure

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Features:
    """n media of one side, made or real, as an extractor sees them.

    Attributes:
        values: (n, d) float64.
        logits: (n, k) float64, of k classes; None from an extractor without a classifier.
        owners: n; the id of the conversation that each belongs to. Paired distances compare those of one conversation.
        prompts: n; equal where the prompt is, so that several answers to one prompt are known.
        places: n; which of its owner's media each is. Paired distances compare those of one place.
        contents: n; a digest of each, so that a medium that occurs several times can be counted once.
    """

    values: Array
    logits: Array | None
    owners: Sequence[str]
    prompts: Sequence[str]
    places: Sequence[int]
    contents: Sequence[str]

    def __len__(self) -> int:
        return len(self.values)

    def distinct(self) -> Array:
        """(m, d): the values of each content once, in order."""
        first = {content: row for row, content in reversed(list(enumerate(self.contents)))}
        return self.values[sorted(first.values())]


class Distance(Protocol):
    """Compares made media with real ones by their features."""

    def measure(self, made: Features, real: Features) -> Mapping[str, Figure]:
        """The figures by name; their protocol holds this distance's own settings alone.

        Raises:
            TooFewError: a side has too few media.
            ValueError: no logits where they are needed.
        """
        ...


class TooFewError(ValueError):
    """A side has too few media for a figure: it is left out, and the others are measured."""


def require(made: int, real: int, least: int, what: str) -> None:
    """Checks that there are enough media.

    Raises:
        TooFewError: there are fewer than ``least`` on a side.
    """
    if min(made, real) < least:
        raise TooFewError(
            f"{what}: found {made} made and {real} real media; expected at least {least} of each. Fix: answer more "
            "conversations that ask for them, or leave this distance out."
        )


def class_logits(side: Features, what: str) -> Array:
    """The logits of a side.

    Raises:
        ValueError: the extractor has no classifier.
    """
    if side.logits is None:
        raise ValueError(
            f"{what}: found an extractor without class logits; expected one with a classifier, such as "
            "InceptionFeatures or a transformers folder of an ...ForImageClassification. Fix: name such an extractor, "
            "or leave this distance out."
        )
    return side.logits
