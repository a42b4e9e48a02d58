"""What every judge gives: the attributes that it can read in a medium or an answer, or None for what isn't there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from isthmus.pocket.world import Concept, Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Media, Modality

Reading = dict[str, int | str | None]
"""Attribute -> what was read: ``digit`` an int, ``colour`` and ``motion`` words; None where it isn't legible."""

Seen = TypeVar("Seen", Media, str)


class Judge(ABC, Generic[Seen]):
    """Reads attributes, and abstains (None) rather than guesses: an abstention counts as wrong wherever it is scored.

    Attributes:
        modality: what it judges.
        attributes: the names in its readings.
    """

    modality: Modality
    attributes: tuple[str, ...]

    def __call__(self, medium: Seen) -> Reading:
        """What one medium or answer shows."""
        return self.many([medium])[0]

    @abstractmethod
    def many(self, media: Sequence[Seen]) -> list[Reading]:
        """What each shows. The same as one at a time, within float32 rounding, and faster."""

    @abstractmethod
    def real(self, concept: Concept, split: Split, random: np.random.Generator, world: World = DRAWN) -> Seen:
        """A genuine example that shows the concept."""


class MediaJudge(Judge[Media]):
    """A judge of media of one modality."""

    def real(self, concept: Concept, split: Split, random: np.random.Generator, world: World = DRAWN) -> Media:
        """A medium of the world."""
        return world.draw(self.modality, concept, split, random)

    def check(self, media: Sequence[Media]) -> None:
        """Says whose media it can't judge.

        Raises:
            ValueError: a medium is of another modality.
        """
        for medium in media:
            if medium.modality is not self.modality:
                raise ValueError(
                    f"{medium.source}: found {medium.modality}; {type(self).__name__} reads {self.modality}. "
                    f"Give it to the judge of {medium.modality}."
                )


def agreement(reading: Reading, concept: Concept) -> dict[str, bool]:
    """Whether each attribute that the concept says was read so. What the concept leaves unsaid isn't in the result."""
    said = {"digit": concept.digit, "colour": concept.colour, "motion": concept.motion}
    return {name: reading[name] == said[name] for name in reading if said[name] is not None}


def judge_accuracy(
    judge: Judge[Seen], split: Split = "test", n: int = 1000, seed: int = 0, world: World = DRAWN
) -> dict[str, float]:
    """How often the judge reads genuine examples right, by attribute and (``all``) all attributes at once.

    Args:
        judge: the judge.
        split: where the scans come from; those of ``train`` were seen in its training.
        n: examples of uniform, fully said concepts.
        seed: of the examples.
        world: of which; attributes that it hasn't have no figure.
    """
    random = np.random.default_rng(seed)
    concepts = [world.concept(random) for _ in range(n)]
    readings = judge.many([judge.real(concept, split, random, world) for concept in concepts])
    found = [agreement(reading, concept) for reading, concept in zip(readings, concepts, strict=True)]
    scores = {name: float(np.mean([right[name] for right in found])) for name in judge.attributes if name in found[0]}
    return {**scores, "all": float(np.mean([all(right.values()) for right in found]))}
