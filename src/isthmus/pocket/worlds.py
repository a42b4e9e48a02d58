"""Where the media of concepts come from: drawn by rule, or, as an own set's manifest has them, real."""

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
    """Media of concepts, each split apart from the others.

    Attributes:
        has_attributes: whether its media have a colour and a motion that can be said; the digit they always show.
        is_written: whether videos show their digit being written, so that it is whole in the last frame alone.
    """

    has_attributes: bool
    is_written: bool

    @property
    def content(self) -> str | None:
        """Names all that decides what :meth:`draw` gives but for its arguments; None where there's no such name."""
        return None

    @abstractmethod
    def draw(self, modality: Modality, concept: Concept, split: Split, random: Random) -> Media:
        """A medium of this modality that shows the concept, of the split's own ones.

        Raises:
            ValueError: it has none.
        """

    def concept(self, random: Random, drop_colour: float = 0.0, drop_motion: float = 0.0) -> Concept:
        """A uniform concept, its colour and motion left unsaid with these probabilities, or always if they can't be."""
        if self.has_attributes:
            return draw_concept(random, drop_colour, drop_motion)
        return Concept(int(random.integers(10)))


class DrawnWorld(World):
    """The embedded world of :mod:`isthmus.pocket.world`."""

    has_attributes = True
    is_written = False

    @cached_property
    def content(self) -> str:
        """A digest of the rules as they are written, and the versions of the libraries that they draw with."""
        digest = blake2b(Path(rules.__file__).read_bytes(), digest_size=16)
        for name in ("numpy", "pillow", "scikit-learn"):
            digest.update(f"{name} {version(name)}\n".encode())
        return digest.hexdigest()

    def draw(self, modality: Modality, concept: Concept, split: Split, random: Random) -> Media:
        """Drawn anew each time; what the concept leaves unsaid is free."""
        return draw(modality, concept, split, random)


DRAWN = DrawnWorld()
"""The world where no other is named."""
