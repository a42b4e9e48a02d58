"""The interface of judges, which read attributes in a medium or an answer, None for those that they can't read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from isthmus.pocket.world import Concept, Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Media, Modality

Reading = dict[str, int | str | None]
"""Values by attribute: ``digit`` an int, ``colour`` and ``motion`` words; None if it can't be read."""

Content = TypeVar("Content", Media, str)


class Judge(ABC, Generic[Content]):
    """Reads attributes, and abstains (None) instead of guessing; an abstention counts as wrong.

    Attributes:
        modality: of its inputs.
        attributes: the names in its readings.
    """

    modality: Modality
    attributes: tuple[str, ...]

    def __call__(self, medium: Content) -> Reading:
        """The reading of one medium or answer."""
        return self.many([medium])[0]

    @abstractmethod
    def many(self, media: Sequence[Content]) -> list[Reading]:
        """The readings of all: the same as one at a time, within float32 rounding, but faster."""

    @abstractmethod
    def real(self, concept: Concept, split: Split, random: np.random.Generator, world: World = DRAWN) -> Content:
        """A real example of the concept."""


class MediaJudge(Judge[Media]):
    """A judge of media of one modality."""

    def real(self, concept: Concept, split: Split, random: np.random.Generator, world: World = DRAWN) -> Media:
        """A medium of the world."""
        return world.draw(self.modality, concept, split, random)

    def check(self, media: Sequence[Media]) -> None:
        """Checks the modality of media.

        Raises:
            ValueError: a medium has another modality.
        """
        for medium in media:
            if medium.modality is not self.modality:
                raise ValueError(
                    f"{medium.source}: found {medium.modality}; {type(self).__name__} reads {self.modality}. "
                    f"Give it to the judge of {medium.modality}."
                )


def agreement(reading: Reading, concept: Concept) -> dict[str, bool]:
    """Whether each attribute of the concept was read correctly; attributes that it doesn't have are left out."""
    expected = {"digit": concept.digit, "colour": concept.colour, "motion": concept.motion}
    return {name: reading[name] == expected[name] for name in reading if expected[name] is not None}


def judge_accuracy(
    judge: Judge[Content], split: Split = "test", n: int = 1000, seed: int = 0, world: World = DRAWN
) -> dict[str, float]:
    """The judge's accuracy on real examples, by attribute and (``all``) for all attributes at once.

    Args:
        judge: the judge.
        split: of the scans; the judge was trained on those of ``train``.
        n: number of examples, of uniform concepts with all attributes.
        seed: of the examples.
        world: of the examples; attributes that it doesn't have are left out.
    """
    random = np.random.default_rng(seed)
    concepts = [world.concept(random) for _ in range(n)]
    readings = judge.many([judge.real(concept, split, random, world) for concept in concepts])
    found = [agreement(reading, concept) for reading, concept in zip(readings, concepts, strict=True)]
    scores = {name: float(np.mean([right[name] for right in found])) for name in judge.attributes if name in found[0]}
    return {**scores, "all": float(np.mean([all(right.values()) for right in found]))}
