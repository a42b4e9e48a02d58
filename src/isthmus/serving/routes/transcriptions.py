"""``/v1/audio/transcriptions``: a recording -> what the model writes of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import Field

from isthmus.model import Reply
from isthmus.serving.routes.asking import Asking, Run, server_event
from isthmus.serving.routes.forms import read_form
from isthmus.serving.routes.questions import Question
from isthmus.serving.schema import Making, read_fields
from isthmus.types import Modality

PROMPT = "What is it?"
"""What the model is asked where a request has no ``prompt``: words that the embedded world and the talk world train on.
A model of another wording is asked by ``prompt``."""
NAMES = {
    "messages[0].content[0].audio_url": "file",
    "messages[0].content[0]": "file",
    "messages[0].content[1]": "prompt",
    "messages[0]": "file",
    "messages": "file",
}
"""Of the fields of the chat that is made of a request."""


class TranscriptionRequest(Making):
    """A request's fields. ``prompt`` are the words by which the model is asked; ``language`` is added to them."""

    prompt: str | None = None
    language: str | None = Field(None, max_length=40)
    response_format: Literal["json", "text"] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    stream: bool | None = None


class Transcriptions:
    """The route.

    Args:
        asking: runs requests.
    """

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def transcribe(self, request: Request) -> Response:
        """The words.

        Raises:
            ApiError: the recording can't be read.
        """
        asked, run = await self.asking.begin(request, self._read)
        if asked.stream:
            return self.asking.stream(run, self._events(run))
        reply = await self.asking.whole(request, run)
        usage = self._usage(run, reply)
        if asked.response_format == "text":
            return PlainTextResponse(reply.text)
        return JSONResponse({"text": reply.text, "usage": usage})

    async def _read(self, request: Request) -> tuple[TranscriptionRequest, Question]:
        form = await read_form(request, self.asking.limits)
        (file,) = form.taken("file")
        form.close()
        asked = read_fields(form.fields, TranscriptionRequest)
        uri = await run_in_threadpool(file.uri)
        words = asked.prompt or PROMPT
        parts: list[dict[str, Any]] = [
            {"type": "audio_url", "audio_url": {"url": uri}},
            {"type": "text", "text": f"{words} ({asked.language})" if asked.language else words},
        ]
        more = {"temperature": asked.temperature, "stream": bool(asked.stream)}
        return asked, Question(asked.chat(self.asking.name, parts, ["text"], **more), NAMES, takes=[Modality.AUDIO])

    async def _events(self, run: Run) -> AsyncGenerator[str]:
        """The words as server-sent events."""
        async for event in run.pieces():
            if isinstance(event, str):
                yield server_event({"type": "transcript.text.delta", "delta": event})
            elif isinstance(event, Reply):
                usage = self._usage(run, event)
                yield server_event({"type": "transcript.text.done", "text": event.text, "usage": usage})

    def _usage(self, run: Run, reply: Reply) -> dict[str, Any]:
        return {"type": "tokens", **self.asking.usage(run, reply)}
