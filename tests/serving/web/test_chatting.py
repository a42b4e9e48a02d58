"""Conversations of the app over a real engine: what stops them, what they may hold, and what is left of them."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from PIL import Image
from served import LIMITS

from isthmus.inference.pipeline import Pipeline
from isthmus.serving.engine import Engine
from isthmus.serving.metrics import Metrics
from isthmus.serving.prompts import PromptMaker
from isthmus.serving.routes.asking import Asking
from isthmus.serving.web import chatting as module
from isthmus.serving.web import talks as kept
from isthmus.serving.web.chatting import Chatting
from isthmus.serving.web.exporting import exported
from isthmus.serving.web.talks import Talk, Talks

SETTINGS = ("tiny", ["text"], 0, 0, 6, None, None)
DRAWN = ("tiny", ["image"], 5, 0, 6, 2, None)
LONG = ("tiny", ["text"], 0, 0, 400, None, None)


@pytest.fixture(scope="module")
def begun(opened: Pipeline, worded: Pipeline) -> Iterator[Asking]:
    """Asks a running engine, with two models."""
    engine = Engine(opened.model, 2, 2)
    lock = threading.Lock()
    prompts, other = PromptMaker(opened, LIMITS, lock), PromptMaker(worded, LIMITS, lock)
    engine.start()
    prompts.reader.start()
    other.reader.start()
    yield Asking(engine, prompts, LIMITS, "tiny", Metrics(lambda: engine.load), {"words": other})
    engine.stop()
    prompts.reader.close()
    other.reader.close()


@pytest.fixture
def limits(begun: Asking) -> Iterator[Callable[..., None]]:
    """Sets limits of conversations."""
    before = begun.limits
    yield lambda **changed: setattr(begun, "limits", replace(before, **changed))
    begun.limits = before


@pytest.fixture
def chatting(begun: Asking) -> Iterator[Chatting]:
    talks = Talks()
    yield Chatting(talks, begun, {})
    talks.close()


def page(name: str = "page") -> tuple[str, Request]:
    return name, Request({"type": "http", "method": "POST", "path": "/", "headers": [], "state": {}})


def say(
    chatting: Chatting, *paths: Path, settings: Any = SETTINGS, at: Callable[[dict[str, Any]], bool] | None = None
) -> Talk:
    """Asks; the page is closed at the update ``at``."""

    async def whole() -> None:
        async with aclosing(chatting.send(page(), "what is it", list(paths), settings)) as updates:
            async for update in updates:
                if at is not None and at(update):
                    break
        while any(chatting.asking.engine.load.values()):  # what was given up ends in this loop, too
            await asyncio.sleep(0.01)

    asyncio.run(whole())
    return chatting.talks.of("page")


def test_an_answer_says_where_its_media_come_from(chatting: Chatting, files: dict[str, Path]) -> None:
    talk = say(chatting, files["image"], settings=DRAWN)
    (turn,) = talk.turns
    made = [piece for piece in turn.pieces if not isinstance(piece, str)]
    assert turn.message is not None and "seed 5" in turn.note and len(made) == 1 and not talk.is_busy
    said = Image.open(made[0].path).info
    assert said["Software"].startswith("isthmus") and (said["Model"], said["Seed"]) == ("tiny", "5")
    assert "Software" not in Image.open(turn.shown[0].path).info
    assert files["image"].is_file(), "a page that uploaded the same file may still need it"


def test_answers_that_are_forgotten_leave_no_file(chatting: Chatting, files: dict[str, Path]) -> None:
    talk = say(chatting, files["image"], settings=DRAWN)

    async def again() -> None:
        async for _ in chatting.again(page(), 0, DRAWN):
            pass

    for seed in (6, 7):
        asyncio.run(again())
        assert talk.turns[0].options["seed"] == seed, "each time another answer, though the settings say 5"
        assert len(list(talk.folder.iterdir())) == 2, "the question's, and the last answer's"
    assert talk.size >= talk.turns[0].said + sum(path.stat().st_size for path in talk.folder.iterdir())


def test_another_model_is_chosen(chatting: Chatting, files: dict[str, Path]) -> None:
    """It goes on with a conversation as far as it knows the media in it."""
    talk = say(chatting, files["image"], settings=DRAWN)
    words = ("words", *SETTINGS[1:])
    say(chatting, settings=words)
    first, second = talk.turns
    assert first.note.startswith("model tiny · seed 5") and second.message is None
    assert "holds media that the model words doesn't know: image. Fix: choose another model" in second.note

    async def again() -> None:
        async for _ in chatting.again(page(), 0, words):
            pass

    asyncio.run(again())
    assert [turn.note.split(" · ")[:2] for turn in talk.turns] == [["model words", "seed 0"]]
    assert not [piece for piece in first.pieces if not isinstance(piece, str)] and first.options["model"] == "words"
    say(chatting, files["image"], settings=words)
    assert "model words" in talk.turns[1].note, "what it was shown and has answered itself, it knows"


def test_unanswered_questions_count(chatting: Chatting, limits: Callable[..., None], files: dict[str, Path]) -> None:
    size = files["image"].stat().st_size
    limits(body=4 * size)
    talk = chatting.talks.of("page")
    stop = lambda update: "box" in update  # noqa: E731
    for _ in range(2):
        say(chatting, files["image"], at=stop)
    assert len(talk.turns) == 2 and all(turn.message is None for turn in talk.turns)
    before = talk.size
    with pytest.warns(UserWarning, match="the conversation: found .* bytes"):
        say(chatting, files["image"], files["image"])
    assert talk.size == before and len(list(talk.folder.iterdir())) == 2
    limits(parts=6)
    with pytest.warns(UserWarning, match="found 7 messages and files; expected at most 6"):
        say(chatting, files["image"], files["image"])
    assert len(talk.turns) == 2 and not talk.is_busy


def test_a_question_that_is_refused_leaves_no_file(chatting: Chatting, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"broken\.png"):
        talk = say(chatting, files["image"], tmp_path / "broken.png")
    assert not talk.turns and not talk.folder.exists()
    with pytest.warns(UserWarning, match="no longer here"):
        say(chatting, tmp_path / "gone.png")


def test_all_conversations_together_are_bounded(
    chatting: Chatting, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = say(chatting, files["image"])
    assert chatting.talks.of("other") is not old and chatting.talks.named(old.folder.name) is old
    monkeypatch.setattr(kept, "MOST_BYTES", old.size - 1)
    chatting.talks.of("page")
    assert chatting.talks.named(old.folder.name) is old, "not the one that asks"
    chatting.talks.of("other")
    assert chatting.talks.named(old.folder.name) is None and not old.folder.exists()


@pytest.mark.parametrize("is_new", [False, True])
def test_a_stop_while_files_are_read(
    chatting: Chatting, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    reading, attach = threading.Event(), module.attach

    def slow(*given: Any) -> Any:
        (chatting.clear if is_new else chatting.stop)("page")
        reading.set()
        return attach(*given)

    monkeypatch.setattr(module, "attach", slow)
    talk = say(chatting, files["image"], settings=LONG)
    assert reading.is_set() and not talk.is_busy
    assert [turn.note for turn in talk.turns] == ([] if is_new else ["Stopped."])
    assert talk.folder.exists() is not is_new
    monkeypatch.undo()
    assert "seed 0" in say(chatting).turns[-1].note, "the next is answered"


def test_a_stop_while_the_prompt_is_read(chatting: Chatting, begun: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, prompts = chatting.talks.of("page"), begun.models["tiny"]

    def slow(*given: Any) -> Any:
        assert talk.job is None
        talk.stop()
        return prompts(*given)

    slow.model = prompts.model  # type: ignore[attr-defined]
    monkeypatch.setitem(begun.models, "tiny", slow)  # type: ignore[arg-type]
    say(chatting, settings=LONG)
    assert talk.turns[0].note == "Stopped." and talk.turns[0].message is None


@pytest.mark.parametrize("part", ["box", "chat"])
def test_a_page_that_is_closed(chatting: Chatting, begun: Asking, part: str) -> None:
    jobs = []

    def closes(update: dict[str, Any]) -> bool:
        jobs.append(chatting.talks.of("page").job)
        return part in update and (part == "box" or jobs[-1] is not None)

    talk = say(chatting, settings=LONG, at=closes)
    assert not talk.is_busy and talk.job is None
    assert part == "box" or jobs[-1].is_cancelled
    assert "seed 0" in say(chatting).turns[-1].note, "the next is answered"


def test_a_conversation_that_goes_while_it_is_saved(chatting: Chatting, files: dict[str, Path]) -> None:
    talk = say(chatting, files["image"])
    assert io.BytesIO(exported(talk)).read(2) == b"PK"
    talk.turns[0].shown[0].path.unlink()
    with pytest.raises(FileNotFoundError):
        exported(talk)
