"""Drawing that waits for a reader: the same media, named by what decides them, drawn as far as they are read."""

from __future__ import annotations

import numpy as np

from isthmus.data.conversations.schema import Conversation, MediumItem
from isthmus.data.media.deferred import DeferredMedia
from isthmus.pocket.conversations import conversation
from isthmus.pocket.tasks import AnyToAny, Arithmetic, Describe
from isthmus.pocket.worlds import DRAWN


def media(talk: Conversation) -> list[DeferredMedia]:
    items = (item for message in talk.messages for item in message.content if isinstance(item, MediumItem))
    return [item.media for item in items if isinstance(item.media, DeferredMedia)]


def test_equals_drawing_at_once() -> None:
    source = AnyToAny(size=200, with_content=True)
    several = 0
    for index in range(len(source)):
        random = source.random(index)
        plain = conversation(source.dialogue(index, random), "train", random, True, DRAWN)
        items = (item for message in plain.messages for item in message.content)
        expected = [item.media for item in items if isinstance(item, MediumItem)]
        deferred = media(source[index])
        # Read in reverse: the order of reading decides nothing.
        for one, other in reversed(list(zip(deferred, expected, strict=True))):
            assert not isinstance(other, DeferredMedia) and one.modality is other.modality
            assert np.array_equal(one.array, other.array) and one.rate == other.rate
        several += len(deferred) > 1
    assert several > 50


def test_names_are_those_of_the_content() -> None:
    source = Describe(size=300)
    names = [medium.content for index in range(len(source)) for medium in media(source[index])]
    assert len(set(names)) == 300
    assert names == [medium.content for index in range(300) for medium in media(Describe(size=300)[index])]
    others = [Describe(size=300, seed=1), Describe("test", 300)]
    for other in others:
        assert not set(names) & {medium.content for index in range(300) for medium in media(other[index])}


def test_nothing_is_drawn_before_it_is_read() -> None:
    source = Arithmetic(size=60)
    pair = next(found for index in range(60) if len(found := media(source[index])) == 2)
    assert [medium.is_made for medium in pair] == [False, False]
    assert pair[0].array.size and [medium.is_made for medium in pair] == [True, False]
