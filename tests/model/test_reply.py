"""An answer's pieces, in order."""

from __future__ import annotations

from model.talks import medium

from isthmus.model import Reply
from isthmus.types import Modality


def test_pieces_keep_their_order_and_kind() -> None:
    first, tone, second = medium("image", 1), medium("audio", 2), medium("image", 3)
    reply = Reply([" here: ", first, "and", tone, " ", second, "done. "])
    assert reply.text == "here: and done."
    assert reply.media() == [first, tone, second]
    assert reply.media(Modality.IMAGE) == [first, second] and reply.media(Modality.VIDEO) == []
    assert (reply.forced, reply.ended, reply.tokens) == ([], "end", 0)


def test_an_empty_answer_is_no_text_and_no_media() -> None:
    assert Reply().text == "" and Reply().media() == [] and Reply([medium("points", 1)]).text == ""
    one, other = Reply(), Reply()
    one.content.append("mine")
    assert other.content == []
