"""``/v1/responses``: words and pictures in and out, as items; whole, or as a stream of events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from isthmus.model import Reply
from isthmus.serving.engine import PartialImage
from isthmus.serving.errors import invalid
from isthmus.serving.routes.asking import Asking, Run
from isthmus.serving.routes.questions import Question
from isthmus.serving.routes.response_events import ResponseEvents
from isthmus.serving.routes.response_items import MOST_PARTIAL_IMAGES, new_name, output_of, turns_of
from isthmus.serving.schema import Body, ChatRequest
from isthmus.types import Modality

NAMES = {"max_tokens": "max_output_tokens", "messages": "input", "partial_images": "tools.partial_images"}
"""Of the fields of the chat that is made of a request."""


class ImageTool(Body):
    """That the answer may hold pictures. Their size and format are the generator's own."""

    type: Literal["image_generation"]
    action: Literal["auto", "generate", "edit"] | None = None
    size: Literal["auto"] | None = None
    quality: Literal["auto"] | None = None
    background: Literal["auto", "opaque"] | None = None
    output_format: Literal["png"] | None = None
    partial_images: int | None = Field(None, ge=0, le=MOST_PARTIAL_IMAGES)


class ChosenTool(Body):
    """The tool that an answer must use."""

    type: Literal["image_generation"]


class TextFormat(Body):
    """Of the words."""

    type: Literal["text"]


class TextOptions(Body):
    """Of the words."""

    format: TextFormat | None = None


class ResponseRequest(Body):
    """A request. ``seed``, ``num_inference_steps`` and ``guidance_scale`` are ours."""

    model: str
    input: str | list[dict[str, Any]] = Field(min_length=1)
    instructions: str | None = None
    tools: list[ImageTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stream: bool | None = False
    text: TextOptions | None = None
    truncation: Literal["auto"] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**31)
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=100)

    @property
    def draws(self) -> bool:
        """Whether the answer may hold pictures."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def must_draw(self) -> bool:
        """Whether it must."""
        return self.draws and (self.tool_choice == "required" or isinstance(self.tool_choice, ChosenTool))

    @property
    def partial_images(self) -> int:
        """How often each picture is shown before it is done."""
        return max(tool.partial_images or 0 for tool in self.tools or []) if self.draws else 0


class Responses:
    """The route.

    Args:
        asking: runs requests.
    """

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def answer(self, request: Request) -> Response:
        """Answers a request.

        Raises:
            ApiError: it can't be answered.
        """
        asked, run = await self.asking.begin(request, self._read)
        facts = _facts(asked, run)
        if asked.stream:
            events = ResponseEvents(facts)
            return self.asking.stream(run, self._events(run, facts, events), events.fail)
        reply = await self.asking.whole(request, run)
        output = await run_in_threadpool(output_of, reply, self.asking.made(run))
        return JSONResponse(self._ended(facts, output, run, reply))

    async def _read(self, request: Request) -> tuple[ResponseRequest, Question]:
        asked = await self.asking.body(request, ResponseRequest)
        if asked.previous_response_id or asked.store:
            field = "previous_response_id" if asked.previous_response_id else "store"
            found = f"{field}: found it; this server keeps no answers. Fix: send the conversation's items as input."
            raise invalid(found, field, "unsupported_parameter")
        if asked.tool_choice not in (None, "auto", "none") and not asked.tools:
            found = "tool_choice: found one that must be used, and no tools; expected it among them. Fix: send tools."
            raise invalid(found, "tool_choice")
        turns, names = turns_of(asked.input, asked.instructions)
        own = ("model", "temperature", "top_p", "seed", "stream", "num_inference_steps", "guidance_scale")
        chat = ChatRequest(
            messages=turns,
            max_tokens=asked.max_output_tokens,
            modalities=["image"] if asked.must_draw else None,
            **{name: getattr(asked, name) for name in own},
        )
        drawn = [Modality.IMAGE] if asked.draws else []
        return asked, Question(
            chat,
            names | NAMES,
            makes=drawn,
            allowed=drawn,
            partial_images=asked.partial_images,
        )

    def _ended(self, facts: dict[str, Any], output: list[dict[str, Any]], run: Run, reply: Reply) -> dict[str, Any]:
        """The response when all is there."""
        usage = self.asking.usage(run, reply) | {
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        if reply.ended == "length":
            ended: dict[str, Any] = {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            }
        else:
            ended = {"status": "completed", "completed_at": int(time.time())}
        return {**facts, **ended, "output": output, "usage": usage}

    async def _events(self, run: Run, facts: dict[str, Any], events: ResponseEvents) -> AsyncGenerator[str]:
        """The response as server-sent events: words as they come, then pictures, then all of it once more."""
        for event in events.begin():
            yield event
        async for emitted in run.pieces():
            if isinstance(emitted, str):
                for event in events.say(emitted):
                    yield event
            elif isinstance(emitted, PartialImage):
                for event in await run_in_threadpool(events.show, emitted, self.asking.made(run)):
                    yield event
            elif isinstance(emitted, Reply):
                for event in await run_in_threadpool(events.end, emitted, self.asking.made(run)):
                    yield event
                yield events.response(self._ended(facts, events.output, run, emitted))


def _facts(asked: ResponseRequest, run: Run) -> dict[str, Any]:
    """What a response says from its beginning on."""
    choice = asked.tool_choice
    return {
        "id": new_name("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": True if asked.parallel_tool_calls is None else asked.parallel_tool_calls,
        "previous_response_id": None,
        "store": False,
        "temperature": run.job.sampling.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": choice.model_dump() if isinstance(choice, ChosenTool) else choice or "auto",
        "tools": [tool.model_dump(exclude_none=True) for tool in asked.tools or []],
        "top_p": run.job.sampling.top_p,
        "truncation": "auto",
        "usage": None,
        "user": asked.user,
    }
