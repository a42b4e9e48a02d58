"""Media that are made when somebody looks."""

from __future__ import annotations

import pickle

import numpy as np

from isthmus.data.media.deferred import DeferredMedia
from isthmus.types import Media, Modality


def test_is_made_once_and_when_it_is_read() -> None:
    made: list[int] = []

    def make() -> Media:
        made.append(1)
        return Media(Modality.AUDIO, np.ones(4, np.float32), 8000.0, "a tone", {"seed": 3})

    medium = DeferredMedia(Modality.AUDIO, "tone 1", make)
    assert isinstance(medium, Media) and medium.modality is Modality.AUDIO
    assert not medium.is_made and not made
    assert medium.rate == 8000.0 and medium.is_made
    assert np.array_equal(medium.array, np.ones(4, np.float32))
    assert (medium.source, medium.details, medium.content) == ("a tone", {"seed": 3}, "tone 1")
    assert made == [1]


def test_travels_as_a_plain_medium() -> None:
    medium = DeferredMedia(Modality.IMAGE, "grey", lambda: Media(Modality.IMAGE, np.full((2, 2, 3), 9, np.uint8)))
    other = pickle.loads(pickle.dumps(medium))
    assert type(other) is Media and np.array_equal(other.array, medium.array)
