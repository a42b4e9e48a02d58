"""``/v1/chat/completions``: an answer as one object, or as a stream of chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from isthmus.model import Reply
from isthmus.serving.media import file_uri, to_base64
from isthmus.serving.routes.asking import Asking, Run, server_event
from isthmus.serving.routes.questions import Question
from isthmus.serving.schema import ChatRequest
from isthmus.types import Media


class Completions:
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
        facts = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
        if asked.stream:
            return self.asking.stream(run, self._chunks(asked, run, facts))
        reply = await self.asking.whole(request, run)
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        message |= await run_in_threadpool(media_fields, reply, self._encode(run))
        choice = {"index": 0, "message": message, "finish_reason": finish_reason(reply), "logprobs": None}
        body = facts | {"object": "chat.completion", "choices": [choice], "usage": self._usage(run, reply)}
        return JSONResponse(body)

    async def _read(self, request: Request) -> tuple[ChatRequest, Question]:
        asked = await self.asking.body(request, ChatRequest)
        return asked, Question(asked)

    async def _chunks(self, asked: ChatRequest, run: Run, facts: Mapping[str, Any]) -> AsyncGenerator[str]:
        """The answer as server-sent events: pieces of text as they come, then its media, then why it ended."""
        wants_usage = asked.stream_options is not None and asked.stream_options.include_usage

        def chunk(delta: Mapping[str, Any] | None, ended: str | None = None, **more: Any) -> str:
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": ended, "logprobs": None}]
            return server_event({**facts, "object": "chat.completion.chunk", "choices": choices, **more})

        yield chunk({"role": "assistant", "content": ""})
        async for event in run.pieces():
            if isinstance(event, str):
                yield chunk({"content": event})
            elif isinstance(event, Reply):
                if media := await run_in_threadpool(media_fields, event, self._encode(run)):
                    yield chunk(media)
                yield chunk({}, finish_reason(event))
                usage = self._usage(run, event)
                if wants_usage:
                    yield chunk(None, usage=usage)
        yield "data: [DONE]\n\n"

    def _encode(self, run: Run) -> Callable[[Media], str]:
        return partial(to_base64, made=self.asking.made(run))

    def _usage(self, run: Run, reply: Reply) -> dict[str, int]:
        given, answered = self.asking.counted(run, reply)
        return {"prompt_tokens": given, "completion_tokens": answered, "total_tokens": given + answered}


def finish_reason(reply: Reply) -> str:
    """Why the answer ended, in OpenAI's words."""
    return "length" if reply.ended == "length" else "stop"


def media_fields(reply: Reply, encode: Callable[[Media], str]) -> dict[str, Any]:
    """A reply's media by the fields of a message: ``images``, ``videos``, ``points``; ``audio`` as OpenAI has it.

    Further recordings than one are in ``audios``, in the form of images, and then all are.

    Args:
        reply: to say.
        encode: gives a medium's file, of its modality's first ending, in base64; called once a medium.
    """
    fields: dict[str, Any] = {}
    recordings = []
    for medium in reply.media():
        file = encode(medium)
        kind = f"{medium.modality}_url"
        part = {"type": kind, kind: {"url": file_uri(medium, file)}}
        if medium.modality == "audio":
            recordings.append(part)
            fields.setdefault("audio", {"id": f"audio_{uuid.uuid4().hex}", "data": file, "transcript": ""})
            fields["audio"]["expires_at"] = int(time.time())  # the server keeps nothing
        else:
            fields.setdefault(medium.modality.spec.listed, []).append(part)
    if len(recordings) > 1:
        fields["audios"] = recordings
    return fields
