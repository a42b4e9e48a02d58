"""References: real media that show what their captions say."""

from __future__ import annotations

from collections import Counter

import pytest

from isthmus.data.conversations.schema import MediumItem, TextItem
from isthmus.pocket.judges.base import agreement
from isthmus.pocket.judges.text import TextJudge
from isthmus.pocket.references import References
from isthmus.pocket.world import Concept
from isthmus.types import Media, Modality


def test_captions_and_media_say_what_is_expected() -> None:
    source = References(size=100)
    turns: Counter[tuple[str, int]] = Counter()
    for index in range(len(source)):
        conversation = source[index]
        (item,) = conversation.messages[-1].content
        expected = conversation.details["expect"]
        text = item.text if isinstance(item, TextItem) else str(item.caption)
        assert all(agreement(TextJudge()(text), Concept(**expected)).values())
        assert TextJudge()(text) == expected, "and no more"
        if isinstance(item, MediumItem):
            assert isinstance(item.media, Media) and item.media.modality is item.modality
            turns[item.modality, expected["digit"]] += 1
        else:
            turns["text", expected["digit"]] += 1
    assert set(turns.values()) == {2} and len(turns) == 50, "modalities and digits take turns"


def test_items_are_the_same_each_time_and_end() -> None:
    one, other = (References(size=8)[3].messages[-1].content[0] for _ in range(2))
    assert isinstance(one, MediumItem) and isinstance(other, MediumItem)
    assert isinstance(one.media, Media) and isinstance(other.media, Media)
    assert one.modality is Modality.AUDIO and (one.media.array == other.media.array).all()
    with pytest.raises(IndexError, match="no item 8"):
        References(size=8)[8]
    with pytest.raises(ValueError, match=r"references\.modalities: found smell"):
        References(modalities=["smell"])
