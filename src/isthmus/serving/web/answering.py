"""One answer, from the click to its last medium: what becomes of the conversation, and what the page is told."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from html import escape
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from isthmus.model import Reply
from isthmus.serving.engine import PartialImage
from isthmus.serving.errors import ApiError
from isthmus.serving.provenance import Provenance
from isthmus.serving.routes.asking import Asking
from isthmus.serving.routes.completions import media_fields
from isthmus.serving.web.asking import ask, told, worded
from isthmus.serving.web.showing import show
from isthmus.serving.web.talks import Shown, Talk, Turn
from isthmus.types import Media

STAGES = {"reading": "Reading", "waiting": "Waiting for a place", "decoding": "Writing", "media": "Making media"}
"""Stage of a job -> what the page says of it."""


async def answered(asking: Asking, request: Request, talk: Talk, options: Mapping[str, Any]) -> AsyncGenerator[str]:
    """Answers a conversation's last turn; yields a status line whenever the page should be drawn anew.

    Closing it, as Gradio does when the page is closed, gives the answer up.
    """
    turn, begun = talk.turns[-1], time.monotonic()
    turn.forget()
    turn.options = dict(options)
    words, made = "", asking.made_with(options["model"], options["seed"])
    try:
        yield _status(talk, begun)
        events = ask(asking, request, talk, options)
        try:
            async for event in events:
                match event:
                    case None | PartialImage():
                        pass
                    case str(piece):
                        words += piece
                        turn.pieces = [words]
                    case Reply():
                        turn.message, turn.pieces = await run_in_threadpool(_kept, event, talk, made)
                        turn.note = _note(event, options, time.monotonic() - begun, len(asking.models) > 1)
                    case error:
                        _failed(turn, talk, words, error)
                yield _status(talk, begun)
        finally:
            await events.aclose()
    except (ApiError, ValueError) as error:
        told(error)
        _failed(turn, talk, words, error)
    finally:
        if turn.message is None and words:
            turn.message = {"role": "assistant", "content": words}
    yield ""


def _kept(reply: Reply, talk: Talk, made: Provenance | None) -> tuple[dict[str, Any], list[str | Shown]]:
    files: dict[int, str] = {}
    pieces: list[str | Shown] = []
    for piece in reply.content:
        if isinstance(piece, Media):
            shown = show(piece, talk, "The answer's", made=made)
            files[id(piece)] = b64encode(shown.path.read_bytes()).decode("ascii")
            pieces.append(shown)
        elif piece:
            pieces.append(piece)
    media = media_fields(reply, lambda medium: files[id(medium)])
    return {"role": "assistant", "content": reply.text, **media}, pieces


def _failed(turn: Turn, talk: Talk, words: str, error: BaseException) -> None:
    if talk.was_stopped:
        turn.note = "Stopped."
    else:
        turn.note = f"This wasn't answered. {worded(error, talk)}"
    turn.message = {"role": "assistant", "content": words} if words else None


def _note(reply: Reply, options: Mapping[str, Any], seconds: float, has_choice: bool) -> str:
    said = [f"model {options['model']}"] if has_choice else []
    said += [f"seed {options['seed']}", f"{reply.tokens} tokens", f"{seconds:.1f} s"]
    said += [f"the {medium} was required; the model didn't give it by itself" for medium in reply.forced]
    if reply.ended == "length":
        said.append("cut off at the limit of tokens")
    if reply.left_out:
        said.append(f"the {reply.left_out} oldest messages had no room")
    if not reply.content:
        said.append("the answer is empty")
    return " · ".join(said)


def _status(talk: Talk, begun: float) -> str:
    """What is being done; its words are read aloud, and its seconds and steps count silently."""
    stage = "reading" if talk.job is None else talk.job.stage
    doing, value = STAGES[stage], ""
    if stage == "media" and talk.step is not None:
        word, done, total = talk.step
        doing, value = f"Making the {escape(word)}", f' value="{done}" max="{total}"'
    seconds = f'<span aria-hidden="true">{time.monotonic() - begun:.0f} s</span>'
    return f'{doing} {seconds}<progress aria-hidden="true"{value}></progress>'
