"""``/v1/images/generations`` and ``/v1/images/edits``: words, and pictures to begin with, -> a picture."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from isthmus.model import Reply
from isthmus.serving.media import to_base64
from isthmus.serving.routes.asking import Asking, Question, Run, server_event
from isthmus.serving.routes.forms import read_form
from isthmus.serving.routes.response_items import picture_facts
from isthmus.serving.schema import Making, read_fields
from isthmus.types import Modality
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
    partial_images: int | None = Field(None, ge=0, le=0)


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
        chat = asked.chat(self.asking.name, asked.prompt, ["image"])
        return asked, Question(chat, NAMES, makes=[IMAGE])

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
        chat = asked.chat(self.asking.name, parts, ["image"])
        return asked, Question(chat, names, takes=[IMAGE], makes=[IMAGE])

    async def _answer(self, request: Request, asked: ImageRequest, run: Run, event: str) -> Response:
        created = int(time.time())
        if asked.stream:
            return self.asking.stream(run, self._events(run, event, created))
        reply = await self.asking.whole(request, run)
        image, facts = await run_in_threadpool(self._made, run, reply)
        usage = self._usage(run, reply)
        return JSONResponse({"created": created, "data": [{"b64_json": image}], **facts, "usage": usage})

    async def _events(self, run: Run, event: str, created: int) -> AsyncGenerator[str]:
        """The picture as server-sent events."""
        async for emitted in run.pieces():
            if isinstance(emitted, Reply):
                image, facts = await run_in_threadpool(self._made, run, emitted)
                more = {"b64_json": image, "created_at": created, "usage": self._usage(run, emitted)}
                yield server_event({"type": f"{event}.completed", **facts, **more})

    def _usage(self, run: Run, reply: Reply) -> dict[str, Any]:
        usage = self.asking.usage(run, reply)
        seen = int((run.prompt.batch.ids == MEDIA_POSITION).sum())
        return {**usage, "input_tokens_details": {"image_tokens": seen, "text_tokens": usage["input_tokens"] - seen}}

    def _made(self, run: Run, reply: Reply) -> tuple[str, dict[str, str]]:
        """The first picture of a reply in base64, and what is said of it."""
        medium = reply.media(IMAGE)[0]
        return to_base64(medium, self.asking.made(run)), picture_facts(medium)
