"""A world whose media are drawn on first use, so that cached features of a medium need no drawing."""

from __future__ import annotations

import json
from hashlib import blake2b

from numpy.random import Generator as Random

from isthmus.data.media.deferred import DeferredMedia
from isthmus.pocket.world import Concept, Split
from isthmus.pocket.worlds import World
from isthmus.types import Media, Modality


class DeferredWorld(World):
    """The media of one conversation, drawn in order from one random generator when they are used.

    A medium's name is a digest of the generator's initial state and of all media up to this one, which determine it.

    Args:
        world: draws the media; its ``content`` identifies its rules.
        random: the generator of the conversation's media, which must not be used otherwise from now on.
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
        """A medium that is drawn on first use, after all media that were requested before it."""
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
