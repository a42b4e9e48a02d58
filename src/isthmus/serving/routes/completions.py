"""``/v1/chat/completions``: an answer as one object, or as a stream of chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from isthmus.model import Reply
from isthmus.serving.bodies import read_body
from isthmus.serving.errors import told
from isthmus.serving.media import to_base64, to_uri
from isthmus.serving.provenance import Provenance
from isthmus.serving.routes.asking import Asking, Question, Run, server_event
from isthmus.serving.schema import ChatRequest, read_json
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
            return StreamingResponse(self._chunks(asked, run, facts), media_type="text/event-stream")
        reply = await self.asking.whole(request, run)
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        message |= await run_in_threadpool(media_fields, reply, self.asking.made(run))
        choice = {"index": 0, "message": message, "finish_reason": finish_reason(reply), "logprobs": None}
        body = facts | {"object": "chat.completion", "choices": [choice], "usage": self._usage(run, reply)}
        return JSONResponse(body)

    async def _read(self, request: Request) -> tuple[ChatRequest, Question]:
        asked = await run_in_threadpool(read_json, await read_body(request, self.asking.limits), ChatRequest)
        return asked, Question(asked)

    async def _chunks(self, asked: ChatRequest, run: Run, facts: Mapping[str, Any]) -> AsyncIterator[str]:
        """The answer as server-sent events: pieces of text as they come, then its media, then why it ended."""
        wants_usage = asked.stream_options is not None and asked.stream_options.include_usage

        def chunk(delta: Mapping[str, Any] | None, ended: str | None = None, **more: Any) -> str:
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": ended, "logprobs": None}]
            return server_event({**facts, "object": "chat.completion.chunk", "choices": choices, **more})

        try:
            yield chunk({"role": "assistant", "content": ""})
            async for event in run.pieces():
                if isinstance(event, str):
                    yield chunk({"content": event})
                elif isinstance(event, Reply):
                    if media := await run_in_threadpool(media_fields, event, self.asking.made(run)):
                        yield chunk(media)
                    yield chunk({}, finish_reason(event))
                    usage = self._usage(run, event)
                    if wants_usage:
                        yield chunk(None, usage=usage)
            yield "data: [DONE]\n\n"
        except Exception as error:
            yield server_event(told(error).body)
        finally:
            run.job.cancel()

    def _usage(self, run: Run, reply: Reply) -> dict[str, int]:
        given, answered = self.asking.counted(run, reply)
        return {"prompt_tokens": given, "completion_tokens": answered, "total_tokens": given + answered}


def finish_reason(reply: Reply) -> str:
    """Why the answer ended, in OpenAI's words."""
    return "length" if reply.ended == "length" else "stop"


def media_fields(reply: Reply, made: Provenance | None) -> dict[str, Any]:
    """A reply's media by the fields of a message: ``images``, ``videos``, ``points``; ``audio`` as OpenAI has it.

    Further recordings than one are in ``audios``, in the form of images, and then all are.
    """
    fields: dict[str, Any] = {}
    media = reply.media()
    for medium in media:
        if medium.modality != "audio":
            fields.setdefault(medium.modality.spec.listed, []).append(_part(medium, made))
    recordings = [medium for medium in media if medium.modality == "audio"]
    if recordings:
        audio = {"id": f"audio_{uuid.uuid4().hex}", "data": to_base64(recordings[0], made), "transcript": ""}
        fields["audio"] = audio | {"expires_at": int(time.time())}  # the server keeps nothing
    if len(recordings) > 1:
        fields["audios"] = [_part(medium, made) for medium in recordings]
    return fields


def _part(medium: Media, made: Provenance | None) -> dict[str, Any]:
    kind = f"{medium.modality}_url"
    return {"type": kind, kind: {"url": to_uri(medium, made)}}
