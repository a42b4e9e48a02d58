"""Asks the engine for the app, in process: the same request, limits and errors as every route's."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from isthmus.model import Reply
from isthmus.serving.engine import Event
from isthmus.serving.errors import ApiError, api_error, invalid
from isthmus.serving.routes.asking import GONE, Asking
from isthmus.serving.routes.questions import Question
from isthmus.serving.schema import ChatRequest, read_json
from isthmus.serving.web.talks import Talk
from isthmus.types import Modality
from isthmus.worded import is_worded

TICK = 0.5
"""Seconds after which the page is told how long it has been waiting."""
FIELD = re.compile(r"messages\[(\d+)\](?:\.content\[(\d+)\](?:\.\w+)?)?")


async def ask(asking: Asking, request: Request, talk: Talk, options: Mapping[str, Any]) -> AsyncGenerator[Event | None]:
    """Events of the answer to a conversation's last turn, and None at every tick without one.

    Whoever closes it frees the engine's slot.

    Args:
        asking: asks the engine.
        request: the click.
        talk: the conversation.
        options: fields of the request; ``model`` is one of them.

    Raises:
        ApiError: it can't be answered.
    """

    async def read(_: Request) -> tuple[None, Question]:
        if talk.was_stopped:
            raise ApiError(GONE, "Stopped.")
        _check_media(asking, talk, options["model"])
        asked = {**options, "messages": talk.messages(), "stream": True}
        body = await run_in_threadpool(lambda: json.dumps(asked).encode())
        if len(body) > asking.limits.body:
            found = f"the conversation: found {len(body)} bytes with its media; expected at most {asking.limits.body}"
            raise ApiError(413, f"{found}. Fix: begin a new one.", code="body_too_large")
        return None, Question(await run_in_threadpool(read_json, body, ChatRequest))

    _, run = await asking.begin(request, read, watches=False)  # its connection is that of a click
    talk.job, talk.step = run.job, None
    if talk.was_stopped:  # while the question was read
        run.job.cancel()

    def stepped(modality: Modality, done: int, total: int) -> None:
        talk.step = modality.spec.word, done, total

    run.job.on_step = stepped
    try:
        event: Event | None = None
        while not isinstance(event, Reply | BaseException):
            try:
                event = await asyncio.wait_for(run.events.get(), TICK)
            except TimeoutError:
                event = None
            if isinstance(event, Reply):
                asking.counted(run, event)
            yield event
    finally:
        run.job.cancel()
        talk.job = None


def _check_media(asking: Asking, talk: Talk, name: str) -> None:
    """Another model may have been chosen in the middle of a conversation: it must know the media that are in it."""
    model = asking.models[name].model
    given, made = talk.media()
    if unknown := (given - {*model.inputs, *model.outputs}) | (made - {*model.outputs}):
        words = ", ".join(sorted(Modality(each).spec.word for each in unknown))
        found = f"This conversation holds media that the model {name} doesn't know: {words}"
        raise invalid(f"{found}. Fix: choose another model in the settings, or begin a new conversation.")


def told(error: ApiError | ValueError) -> str:
    """The words of an error that has some for people; another is raised again, for the log.

    Raises:
        ValueError: it is a fault of the program.
    """
    if not isinstance(error, ApiError) and not is_worded(error):
        raise error
    return api_error(error).message


def worded(error: BaseException, talk: Talk) -> str:
    """What a person is told of an error: attachments are called by their names, and no field of a request is named."""
    message = api_error(error).message
    asked = [turn for turn in talk.answered() for _ in range(2)] + talk.turns[-1:]

    def named(found: re.Match[str]) -> str:
        turn = int(found[1])
        names = asked[turn].names if turn < len(asked) and found[2] else []
        return names[int(found[2])] if found[2] and int(found[2]) < len(names) else "the message"

    return FIELD.sub(named, message)
