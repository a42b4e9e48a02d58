"""A world whose media are drawn when somebody looks: a cache that knows what they'd be need not have them drawn."""

from __future__ import annotations

import json
from hashlib import blake2b

from numpy.random import Generator as Random

from isthmus.data.media.deferred import DeferredMedia
from isthmus.pocket.world import Concept, Split
from isthmus.pocket.worlds import World
from isthmus.types import Media, Modality


class DeferredWorld(World):
    """The media of one conversation, drawn one after the other from one random generator, as far as they are read.

    A medium's name holds the generator's state before the first, and what was drawn until then: all that decides it.

    Args:
        world: draws; its ``content`` names its rules.
        random: what all of the conversation's media are drawn with, and nothing else any more.
    """

    def __init__(self, world: World, random: Random) -> None:
        assert world.content is not None, "a world of media without names"
        self.has_attributes, self.is_written = world.has_attributes, world.is_written
        self._world = world
        self._random = random
        self._name = [world.content, json.dumps(random.bit_generator.state, sort_keys=True)]
        self._asked: list[tuple[Modality, Concept, Split]] = []
        self._drawn: list[Media] = []

    def draw(self, modality: Modality, concept: Concept, split: Split, random: Random) -> Media:
        """A medium that is drawn when it is read; before it, those that were asked for before it."""
        assert random is self._random
        place = len(self._asked)
        self._asked.append((modality, concept, split))
        self._name.append(f"{modality} {concept} {split}")
        name = blake2b("\n".join(self._name).encode(), digest_size=16).hexdigest()
        return DeferredMedia(modality, name, lambda: self._medium(place))

    def _medium(self, place: int) -> Media:
        while len(self._drawn) <= place:
            modality, concept, split = self._asked[len(self._drawn)]
            self._drawn.append(self._world.draw(modality, concept, split, self._random))
        return self._drawn[place]
