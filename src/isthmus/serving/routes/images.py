"""``/v1/images/generations`` and ``/v1/images/edits``: words, and pictures to begin with, -> a picture."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from isthmus.model import Reply
from isthmus.serving.engine import PartialImage
from isthmus.serving.media import to_base64
from isthmus.serving.routes.asking import Asking, Run, server_event
from isthmus.serving.routes.forms import read_form
from isthmus.serving.routes.questions import Question
from isthmus.serving.routes.response_items import MOST_PARTIAL_IMAGES, picture_facts
from isthmus.serving.schema import Making, read_fields
from isthmus.types import Media, Modality
from isthmus.vocabulary import MEDIA_POSITION

IMAGE = Modality.IMAGE
MOST_IMAGES = 16
"""That one edit begins with, as at OpenAI."""
NAMES = {
    "messages[0].content[0]": "prompt",
    "messages[0].content": "prompt",
    "messages[0]": "prompt",
    "messages": "prompt",
}
"""Of the fields of the chat that is made of a request."""


class ImageRequest(Making):
    """A request. Size and format are the generator's own: what names others is refused."""

    prompt: str = Field(min_length=1)
    n: int | None = Field(None, ge=1, le=1)
    size: Literal["auto"] | None = None
    quality: Literal["auto"] | None = None
    background: Literal["auto", "opaque"] | None = None
    output_format: Literal["png"] | None = None
    response_format: Literal["b64_json"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=MOST_PARTIAL_IMAGES)


class Images:
    """The routes.

    Args:
        asking: runs requests.
    """

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def generate(self, request: Request) -> Response:
        """A picture of a description.

        Raises:
            ApiError: it can't be made.
        """
        return await self._answer(request, *await self.asking.begin(request, self._description), "image_generation")

    async def edit(self, request: Request) -> Response:
        """A picture of a description and other pictures.

        Raises:
            ApiError: it can't be made.
        """
        return await self._answer(request, *await self.asking.begin(request, self._pictures), "image_edit")

    async def _description(self, request: Request) -> tuple[ImageRequest, Question]:
        asked = await self.asking.body(request, ImageRequest)
        return asked, self._question(asked, asked.prompt, NAMES)

    async def _pictures(self, request: Request) -> tuple[ImageRequest, Question]:
        form = await read_form(request, self.asking.limits)
        pictures = form.taken("image", MOST_IMAGES)
        form.close()
        asked = read_fields(form.fields, ImageRequest)
        parts: list[dict[str, Any]] = [{"type": "text", "text": asked.prompt}]
        names = NAMES | {"messages": "image"}
        for place, picture in enumerate(pictures, 1):
            uri = await run_in_threadpool(picture.uri)
            parts.append({"type": "image_url", "image_url": {"url": uri}})
            names[f"messages[0].content[{place}].image_url"] = f"image[{place - 1}]"
        return asked, self._question(asked, parts, names, [IMAGE])

    def _question(
        self,
        asked: ImageRequest,
        content: str | list[dict[str, Any]],
        names: Mapping[str, str],
        takes: Sequence[Modality] = (),
    ) -> Question:
        chat = asked.chat(self.asking.name, content, ["image"], stream=asked.stream)
        return Question(chat, names, takes, makes=[IMAGE], partial_images=asked.partial_images or 0)

    async def _answer(self, request: Request, asked: ImageRequest, run: Run, event: str) -> Response:
        created = int(time.time())
        if asked.stream:
            return self.asking.stream(run, self._events(run, event, created))
        reply = await self.asking.whole(request, run)
        image, facts = await run_in_threadpool(self._told, run, reply.media(IMAGE)[0])
        usage = self._usage(run, reply)
        return JSONResponse({"created": created, "data": [{"b64_json": image}], **facts, "usage": usage})

    async def _events(self, run: Run, event: str, created: int) -> AsyncGenerator[str]:
        """The picture as server-sent events: what is seen of it before it is done, if that was asked for, then all."""
        async for emitted in run.pieces():
            if isinstance(emitted, PartialImage) and emitted.number == 0:
                image, facts = await run_in_threadpool(self._told, run, emitted.medium)
                more = {"b64_json": image, "created_at": created, "partial_image_index": emitted.index}
                yield server_event({"type": f"{event}.partial_image", **facts, **more})
            elif isinstance(emitted, Reply):
                image, facts = await run_in_threadpool(self._told, run, emitted.media(IMAGE)[0])
                more = {"b64_json": image, "created_at": created, "usage": self._usage(run, emitted)}
                yield server_event({"type": f"{event}.completed", **facts, **more})

    def _usage(self, run: Run, reply: Reply) -> dict[str, Any]:
        usage = self.asking.usage(run, reply)
        seen = int((run.prompt.batch.ids == MEDIA_POSITION).sum())
        return {**usage, "input_tokens_details": {"image_tokens": seen, "text_tokens": usage["input_tokens"] - seen}}

    def _told(self, run: Run, medium: Media) -> tuple[str, dict[str, str]]:
        """A picture in base64, and what is said of it."""
        return to_base64(medium, self.asking.made(run)), picture_facts(medium)
