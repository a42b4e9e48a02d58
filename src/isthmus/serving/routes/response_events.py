"""The events of a streamed response, in the order in which OpenAI's client wants them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.model import Reply
from isthmus.serving.engine import PartialImage
from isthmus.serving.errors import ApiError
from isthmus.serving.media import to_base64
from isthmus.serving.provenance import Provenance
from isthmus.serving.routes.asking import server_event
from isthmus.serving.routes.response_items import (
    message_item,
    new_name,
    output_of,
    picture_facts,
    picture_item,
    text_part,
)


class ResponseEvents:
    """One stream's events.

    Args:
        facts: what the response says from its beginning on.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts
        self.output: list[dict[str, Any]] = []
        self._count = 0
        self._message: str | None = None
        self._pictures: dict[int, str] = {}

    def begin(self) -> Iterator[str]:
        """That the response is there."""
        yield self._event("response.created", response=self.facts)
        yield self._event("response.in_progress", response=self.facts)

    def say(self, words: str) -> Iterator[str]:
        """The next words."""
        if self._message is None:
            self._message = new_name("msg")
            yield self._item("added", message_item("", "in_progress", self._message), 0)
            yield self._text("response.content_part.added", part=text_part(""))
        yield self._text("response.output_text.delta", delta=words, logprobs=[])

    def show(self, seen: PartialImage, made: Provenance | None) -> list[str]:
        """A picture that isn't done. All words were said before, so that its place among the items is known."""
        place = seen.number + (self._message is not None)
        facts = picture_facts(seen.medium)
        shown = {"partial_image_b64": to_base64(seen.medium, made), "partial_image_index": seen.index, **facts}
        return [*self._begin_picture(place), self._picture("partial_image", place, **shown)]

    def end(self, reply: Reply, made: Provenance | None) -> list[str]:
        """The end of all items, which are in ``output`` from then on."""
        return list(self._end(reply, made))

    def response(self, response: Mapping[str, Any]) -> str:
        """The whole, as the last event."""
        return self._event(f"response.{response['status']}", response=response)

    def fail(self, error: ApiError) -> str:
        """Why there is no answer, as the last event."""
        told = {"code": error.code or "server_error", "message": error.message, "param": error.param}
        return self._event("response.failed", response={**self.facts, "status": "failed", "error": told})

    def _end(self, reply: Reply, made: Provenance | None) -> Iterator[str]:
        for place, item in enumerate(output_of(reply, made)):
            if item["type"] == "message":
                if self._message is None:
                    yield from self.say(reply.text)
                item["id"] = self._message
                yield self._text("response.output_text.done", text=reply.text, logprobs=[])
                yield self._text("response.content_part.done", part=text_part(reply.text))
            else:
                yield from self._begin_picture(place)
                item["id"] = self._pictures[place]
                yield self._picture("completed", place)
            yield self._item("done", item, place)
            self.output.append(item)

    def _begin_picture(self, place: int) -> Iterator[str]:
        """That a picture is being made, once."""
        if place not in self._pictures:
            self._pictures[place] = new_name("ig")
            yield self._item("added", picture_item(None, None, self._pictures[place]), place)
            yield self._picture("in_progress", place)
            yield self._picture("generating", place)

    def _picture(self, stage: str, place: int, **more: Any) -> str:
        kind = f"response.image_generation_call.{stage}"
        return self._event(kind, item_id=self._pictures[place], output_index=place, **more)

    def _item(self, stage: str, item: Mapping[str, Any], place: int) -> str:
        return self._event(f"response.output_item.{stage}", item=item, output_index=place)

    def _text(self, kind: str, **more: Any) -> str:
        return self._event(kind, item_id=self._message, output_index=0, content_index=0, **more)

    def _event(self, kind: str, **more: Any) -> str:
        self._count += 1
        return server_event({"type": kind, "sequence_number": self._count - 1, **more})
