"""Marks in and out of code, and those of whose kind nothing is given."""

from __future__ import annotations

import pytest
from data.conversations import assistant, picture, user

from isthmus.data.conversations.marks import marks, unserved_marks
from isthmus.data.conversations.schema import Conversation, MediumItem
from isthmus.types import Modality

TEXTS = {
    "<image>what is `<image>`?": [0],
    "``a ` <audio>`` <audio>": [16],
    "```html\n<video></video>\n``` <video>": [28],
    "```\n<image> that never closes": [],
    "a lone ` and <points>": [13],
    "`two\nlines` of <image>": [15],
    "<IMAGE> <images> <image/>": [],
}


@pytest.mark.parametrize("text", TEXTS)
def test_marks_within_code_are_text(text: str) -> None:
    assert [mark.start() for mark in marks(text)] == TEXTS[text]


def test_what_nothing_is_given_for() -> None:
    shown = MediumItem(Modality.IMAGE, picture(1))
    talk = Conversation((user("<audio> `<video>` <image>", shown), assistant("<points>")))
    assert unserved_marks(talk) == "<audio>"
