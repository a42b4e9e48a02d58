"""What happens on the page: questions, answers, edits, drawings and stops, over one conversation a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import Request

from isthmus.serving.errors import ApiError, invalid
from isthmus.serving.prompts import PromptMaker
from isthmus.serving.routes.asking import Asking
from isthmus.serving.web.answering import answered
from isthmus.serving.web.asking import told
from isthmus.serving.web.attaching import attach
from isthmus.serving.web.examples import Example
from isthmus.serving.web.settings import Settings
from isthmus.serving.web.talks import SEEDS, Shown, Talk, Talks, Turn

Page = tuple[str, Request]
"""The name of an open page, by which its conversation is known, and what it asks now."""
Updates = dict[str, Any]
"""By name of a part of the page, its new state."""
EXPORT = "/app/conversations"
"""Where conversations can be saved from."""


class Chatting:
    """Handles the page's events.

    Args:
        talks: the conversations.
        asking: asks the engine.
        examples: to click, by the model's name.
    """

    def __init__(self, talks: Talks, asking: Asking, examples: Mapping[str, Sequence[Example]]) -> None:
        self.talks, self.asking, self.examples = talks, asking, examples

    async def send(self, page: Page, text: str, paths: list[Path], settings: Sequence[Any]) -> AsyncGenerator[Updates]:
        """A question with its files."""
        talk = self.talks.of(page[0])
        if self._is_busy(talk):
            return
        with talk.busy():  # already now: a second click may come while files are read
            turn, turns, options = None, talk.turns, Settings.options(*settings)
            try:
                pool = self.asking.readers if paths else None
                turn = await asyncio.get_running_loop().run_in_executor(
                    pool, self._asked, talk, text, paths, self.asking.models[options["model"]]
                )
            except (ApiError, ValueError) as error:
                gr.Warning(escape(told(error)))
            if talk.turns is not turns:  # a new conversation was begun meanwhile
                return
            if turn is not None:
                talk.turns.append(turn)
                self.talks.tidy()
            # The words of a question that was refused stay.
            yield {"box": {"text": "" if turn is not None or not paths else text, "files": []}}
            if turn is not None:
                async with aclosing(self._answer(page[1], talk, options)) as drawn:
                    async for updates in drawn:
                        yield updates

    async def example(self, page: Page, index: int, settings: Sequence[Any]) -> AsyncGenerator[Updates]:
        """A question of the examples."""
        examples = self.examples[Settings.options(*settings)["model"]]
        if 0 <= index < len(examples):
            chosen = examples[index]
            async with aclosing(self.send(page, chosen.text, chosen.paths, settings)) as drawn:
                async for updates in drawn:
                    yield updates

    async def again(self, page: Page, index: int, settings: Sequence[Any]) -> AsyncGenerator[Updates]:
        """The answer of a turn anew, with the next seed where the same was asked; what came after it is forgotten."""
        talk = self.talks.of(page[0])
        if self._is_busy(talk) or not 0 <= index < len(talk.turns):
            return
        options, turn = Settings.options(*settings), talk.turns[index]
        if not turn.was_asked_with(options):
            turn.repeats = 0
        elif turn.message is not None:
            turn.repeats += 1
        options["seed"] = (options["seed"] + turn.repeats) % SEEDS
        with talk.busy():
            del talk.turns[index + 1 :]
            async with aclosing(self._answer(page[1], talk, options)) as drawn:
                async for updates in drawn:
                    yield updates

    async def edit(self, page: Page, shown: int, text: str, settings: Sequence[Any]) -> AsyncGenerator[Updates]:
        """Another text of a turn, by the place of its bubble; its media stay, and what came after it is forgotten."""
        talk = self.talks.of(page[0])
        places = _bubbles(talk)
        if self._is_busy(talk) or not 0 <= shown < len(places):
            return
        index, is_text = places[shown]
        if not is_text:
            yield self._drawn(talk, "")
            return
        with talk.busy():
            talk.turns[index].text, talk.turns[index].repeats = text.strip(), 0
            del talk.turns[index + 1 :]
            async with aclosing(self._answer(page[1], talk, Settings.options(*settings))) as drawn:
                async for updates in drawn:
                    yield updates

    def stop(self, page: str) -> None:
        """Gives up the answer that is being made; its slot is then free."""
        self.talks.of(page).stop()

    def clear(self, page: str) -> Updates:
        """A new conversation."""
        talk = self.talks.of(page)
        talk.clear()
        return self._drawn(talk, "")

    def _is_busy(self, talk: Talk) -> bool:
        if talk.is_busy:
            gr.Info("An answer is being made. Stop it first, or wait for it.")
        return talk.is_busy

    def _asked(self, talk: Talk, text: str, paths: Sequence[Path], prompts: PromptMaker) -> Turn | None:
        if not text.strip() and not paths:
            return None
        try:
            self._check_room(talk, text, paths)
            attached = [attach(path, talk, prompts) for path in paths]
        except FileNotFoundError:
            raise invalid("A file is no longer here. Fix: upload it again.") from None
        return Turn(
            text.strip(),
            [each.part for each in attached],
            [each.shown for each in attached],
            [each.name for each in attached],
        )

    def _check_room(self, talk: Talk, text: str, paths: Sequence[Path]) -> None:
        """Holds a conversation, its unanswered questions included, against the limits before files are read."""
        limits, turns = self.asking.limits, list(talk.turns)
        in_base64 = sum((path.stat().st_size + 2) // 3 * 4 for path in paths)
        size = sum(turn.said for turn in turns) + len(text) + in_base64
        if size > limits.body:
            found = f"the conversation: found {size} bytes with its media; expected at most {limits.body}"
            raise ApiError(413, f"{found}. Fix: begin a new one, or send smaller files.", code="body_too_large")
        parts = sum(len(turn.parts) + 1 for turn in turns) + len(paths) + 1
        if parts > limits.parts:
            found = f"the conversation: found {parts} messages and files; expected at most {limits.parts}"
            raise ApiError(413, f"{found}. Fix: begin a new one, or send fewer files.", code="body_too_large")

    async def _answer(self, request: Request, talk: Talk, options: dict[str, Any]) -> AsyncGenerator[Updates]:
        if not talk.turns:  # a new conversation was begun meanwhile
            return
        statuses = answered(self.asking, request, talk, options)
        try:
            async for status in statuses:
                yield self._drawn(talk, status)
        finally:
            await statuses.aclose()

    def _drawn(self, talk: Talk, status: str) -> Updates:
        turns = [(f"{i + 1}: {turn.text[:40] or 'media'}", i) for i, turn in enumerate(talk.turns)]
        kept = f'<a href="{EXPORT}/{talk.folder.name}.zip" download>Save the conversation</a>' if turns else ""
        return {
            "chat": messages(talk),
            "status": status,
            "stop": gr.update(interactive=bool(status)),
            "turns": gr.update(choices=turns, value=turns[-1][1] if turns else None),
            "export": kept,
        }


def messages(talk: Talk) -> list[dict[str, Any]]:
    """A conversation as Gradio's chatbot takes it: a bubble for each piece."""
    said: list[dict[str, Any]] = []
    for turn in talk.turns:
        said += [_bubble("user", piece) for piece in _question(turn)]
        said += [_bubble("assistant", piece) for piece in turn.pieces]
        if turn.note:
            said.append(_bubble("assistant", Shown("", Path(), f'<p class="isthmus-note">{escape(turn.note)}</p>')))
    return said


def _question(turn: Turn) -> list[str | Shown]:
    return [*turn.shown, *([turn.text] if turn.text else [])]


def _bubbles(talk: Talk) -> list[tuple[int, bool]]:
    """For each bubble its turn, and whether it is the text of a question."""
    found = []
    for index, turn in enumerate(talk.turns):
        found += [(index, isinstance(piece, str)) for piece in _question(turn)]
        found += [(index, False)] * (len(turn.pieces) + bool(turn.note))
    return found


def _bubble(role: str, piece: str | Shown) -> dict[str, Any]:
    return {"role": role, "content": piece if isinstance(piece, str) else gr.HTML(piece.html, render=False)}
