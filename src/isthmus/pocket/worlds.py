"""Sources of media for concepts: drawn by rules, or real media of a user's manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from numpy.random import Generator as Random

from isthmus.pocket import world as rules
from isthmus.pocket.world import Concept, Split, draw, draw_concept
from isthmus.types import Media, Modality


class World(ABC):
    """Media of concepts, in disjoint splits.

    Attributes:
        has_attributes: whether its media have colours and motions besides digits.
        is_written: whether videos show their digit being written, so that only the last frame shows all of it.
    """

    has_attributes: bool
    is_written: bool

    @property
    def content(self) -> str | None:
        """Identifies all that :meth:`draw` depends on besides its arguments; None if nothing does."""
        return None

    @abstractmethod
    def draw(self, modality: Modality, concept: Concept, split: Split, random: Random) -> Media:
        """A medium of this modality that shows the concept, from the split.

        Raises:
            ValueError: there is none.
        """

    def concept(self, random: Random, drop_colour: float = 0.0, drop_motion: float = 0.0) -> Concept:
        """A uniform concept, without colour and motion with these probabilities, or always if media have none."""
        if self.has_attributes:
            return draw_concept(random, drop_colour, drop_motion)
        return Concept(int(random.integers(10)))


class DrawnWorld(World):
    """The embedded world of :mod:`isthmus.pocket.world`."""

    has_attributes = True
    is_written = False

    @cached_property
    def content(self) -> str:
        """A digest of the rules' source code and of the versions of the libraries that they use."""
        digest = blake2b(Path(rules.__file__).read_bytes(), digest_size=16)
        for name in ("numpy", "pillow", "scikit-learn"):
            digest.update(f"{name} {version(name)}\n".encode())
        return digest.hexdigest()

    def draw(self, modality: Modality, concept: Concept, split: Split, random: Random) -> Media:
        """Draws a new medium; attributes that the concept doesn't have are random."""
        return draw(modality, concept, split, random)


DRAWN = DrawnWorld()
"""The default world."""
