"""``/v1/chat/completions``: an answer as one object, or as a stream of chunks."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from isthmus.model import Reply
from isthmus.serving.bodies import read_body
from isthmus.serving.engine import Busy, Engine, Event, Job
from isthmus.serving.errors import ApiError, api_error
from isthmus.serving.limits import ServingLimits
from isthmus.serving.media import to_base64, to_uri
from isthmus.serving.metrics import Metrics
from isthmus.serving.prompts import Prompt, PromptMaker
from isthmus.serving.schema import ChatRequest, read_request
from isthmus.types import Media
from isthmus.worded import is_worded

GONE = 499
"""The status of a request whose client left, in logs and metrics."""


class Completions:
    """The route.

    Args:
        engine: answers.
        prompts: makes the engine's prompts.
        limits: caps on requests.
        name: of the model, which requests must name.
        metrics: counts tokens.
    """

    def __init__(
        self, engine: Engine, prompts: PromptMaker, limits: ServingLimits, name: str, metrics: Metrics
    ) -> None:
        self.engine, self.prompts, self.limits, self.name, self.metrics = engine, prompts, limits, name, metrics

    async def answer(self, request: Request) -> Response:
        """Answers a request.

        Raises:
            ApiError: it can't be answered.
        """
        begun = time.monotonic()
        self._reserve()  # before the body is read, so that bodies in memory are as few as places
        try:
            asked = await run_in_threadpool(read_request, await read_body(request, self.limits))
            if asked.model != self.name:
                found = f"model: found '{asked.model[:80]}'; this server has '{self.name}'. Fix: name that."
                raise ApiError(404, found, "model", "model_not_found")
            prompt = await run_in_threadpool(self.prompts, asked)
        except BaseException as error:
            self.engine.release()
            if is_worded(error):
                raise api_error(error) from error
            raise
        job, events = self._submit(asked, prompt, begun)
        facts = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.name}
        if asked.stream:
            chunks = self._chunks(asked, job, events, prompt, facts)
            return StreamingResponse(chunks, media_type="text/event-stream")
        reply = await self._whole(request, job, events)
        if reply is None:
            return Response(status_code=GONE)
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        message |= await run_in_threadpool(media_fields, reply)
        choice = {"index": 0, "message": message, "finish_reason": finish_reason(reply), "logprobs": None}
        body = facts | {"object": "chat.completion", "choices": [choice], "usage": self._usage(prompt, reply)}
        return JSONResponse(body)

    def _reserve(self) -> None:
        try:
            self.engine.reserve()
        except Busy as busy:
            found = f"All places are taken. Try again in {busy.retry_after} s."
            raise ApiError(429, found, code="busy", headers={"Retry-After": str(busy.retry_after)}) from None

    def _submit(self, asked: ChatRequest, prompt: Prompt, begun: float) -> tuple[Job, asyncio.Queue[Event]]:
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        job = Job(
            prompt.batch,
            prompt.sampling,
            emit,
            self.limits.seconds,
            prompt.required,
            prompt.allowed,
            asked.num_inference_steps,
            asked.guidance_scale,
            bool(asked.stream),
            begun=begun,
        )
        self.engine.submit(job)
        return job, events

    async def _whole(self, request: Request, job: Job, events: asyncio.Queue[Event]) -> Reply | None:
        """The reply; None if the client has left, whose slot is then free before the next token."""
        reading = asyncio.create_task(_last(events))
        leaving = asyncio.create_task(_departure(request))
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            job.cancel()
            reading.cancel()
            leaving.cancel()

    async def _chunks(
        self,
        asked: ChatRequest,
        job: Job,
        events: asyncio.Queue[Event],
        prompt: Prompt,
        facts: Mapping[str, Any],
    ) -> AsyncIterator[str]:
        """The answer as server-sent events: pieces of text as they come, then its media, then why it ended."""
        wants_usage = asked.stream_options is not None and asked.stream_options.include_usage

        def chunk(delta: Mapping[str, Any] | None, ended: str | None = None, **more: Any) -> str:
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": ended, "logprobs": None}]
            return _event({**facts, "object": "chat.completion.chunk", "choices": choices, **more})

        try:
            yield chunk({"role": "assistant", "content": ""})
            while isinstance(event := await events.get(), str):
                yield chunk({"content": event})
            if isinstance(event, BaseException):
                yield _event(api_error(event).body)
                return
            if media := await run_in_threadpool(media_fields, event):
                yield chunk(media)
            yield chunk({}, finish_reason(event))
            usage = self._usage(prompt, event)
            if wants_usage:
                yield chunk(None, usage=usage)
            yield "data: [DONE]\n\n"
        finally:
            job.cancel()

    def _usage(self, prompt: Prompt, reply: Reply) -> dict[str, int]:
        given = int(prompt.batch.mask.sum())
        self.metrics.tokens.labels("prompt").inc(given)
        self.metrics.tokens.labels("answer").inc(reply.tokens)
        return {"prompt_tokens": given, "completion_tokens": reply.tokens, "total_tokens": given + reply.tokens}


def finish_reason(reply: Reply) -> str:
    """Why the answer ended, in OpenAI's words."""
    return "length" if reply.ended == "length" else "stop"


def media_fields(reply: Reply) -> dict[str, Any]:
    """A reply's media by the fields of a message: ``images``, ``videos``, ``points``; ``audio`` as OpenAI has it.

    Further recordings than one are in ``audios``, in the form of images, and then all are.
    """
    fields: dict[str, Any] = {}
    media = reply.media()
    for medium in media:
        if medium.modality != "audio":
            fields.setdefault(medium.modality.spec.listed, []).append(_part(medium))
    recordings = [medium for medium in media if medium.modality == "audio"]
    if recordings:
        audio = {"id": f"audio_{uuid.uuid4().hex}", "data": to_base64(recordings[0]), "transcript": ""}
        fields["audio"] = audio | {"expires_at": int(time.time())}  # the server keeps nothing
    if len(recordings) > 1:
        fields["audios"] = [_part(medium) for medium in recordings]
    return fields


def _part(medium: Media) -> dict[str, Any]:
    kind = f"{medium.modality}_url"
    return {"type": kind, kind: {"url": to_uri(medium)}}


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


async def _last(events: asyncio.Queue[Event]) -> Reply:
    """The reply at the end of a job's events."""
    while isinstance(event := await events.get(), str):
        pass
    if isinstance(event, BaseException):
        raise api_error(event) from event
    return event


async def _departure(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
