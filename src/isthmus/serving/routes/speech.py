"""``/v1/audio/speech``: words -> a sound that the model makes of them."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import Field

from isthmus.serving.routes.asking import Asking
from isthmus.serving.routes.questions import Question
from isthmus.serving.schema import Making
from isthmus.serving.sounds import SOUNDS, encoded
from isthmus.types import Modality

NAMES = {"messages[1]": "input", "messages[0]": "input", "messages": "input"}
"""Of the fields of the chat that is made of a request."""


class SpeechRequest(Making):
    """A request. The model has one voice, so that ``voice`` has no effect, and one pace."""

    input: str = Field(min_length=1)
    voice: str | dict[str, Any] | None = None
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    speed: float | None = Field(None, ge=1, le=1)
    stream_format: Literal["audio"] | None = None


class Speech:
    """The route.

    Args:
        asking: runs requests.
    """

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def speak(self, request: Request) -> Response:
        """The sound's file.

        Raises:
            ApiError: it can't be made.
        """
        asked, run = await self.asking.begin(request, self._read)
        reply = await self.asking.whole(request, run)
        self.asking.counted(run, reply)
        form = asked.response_format or "mp3"
        sound = await run_in_threadpool(encoded, reply.media(Modality.AUDIO)[0], form, self.asking.made(run))
        return Response(sound, media_type=SOUNDS[form].kind)

    async def _read(self, request: Request) -> tuple[SpeechRequest, Question]:
        asked = await self.asking.body(request, SpeechRequest)
        chat = asked.chat(self.asking.name, asked.input, ["audio"], system=asked.instructions)
        names = {**NAMES, "messages[0]": "instructions"} if asked.instructions else NAMES
        return asked, Question(chat, names, makes=[Modality.AUDIO])
