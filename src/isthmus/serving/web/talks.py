"""Conversations of the app: their turns, and a folder each for what they show, removed when the conversation ends."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from isthmus.serving.engine import Job
from isthmus.serving.guard.uploads import Uploads

MOST, MOST_BYTES = 256, 1 << 30
"""Conversations that are kept at once, and their bytes; the one that was unused for longest makes room."""
SEEDS = 2**31
"""From which a request chooses; after the last comes the first."""
AWAY = 600.0
"""Seconds after which the conversation of a page that was closed is forgotten."""


@cache
def root() -> Path:
    """The folder of all files of the app in this process, readable by its user alone, and removed at its end.

    What a killed process has left is removed when the next one starts. Gradio reads the place of uploads from the
    environment.
    """
    import atexit

    folders = Uploads()
    atexit.register(folders.close)
    folder = folders.root.resolve()
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    return folder


@dataclass
class Shown:
    """A medium on the page.

    Attributes:
        modality: its name.
        path: of its file.
        html: by which the page shows it.
        size: bytes of its files and of this HTML.
    """

    modality: str
    path: Path
    html: str
    size: int = 0


@dataclass
class Turn:
    """A question and its answer.

    Attributes:
        text: that was written.
        parts: the media that were attached, as the API takes them.
        shown: these as the page shows them.
        names: of their files, as their owner calls them.
        message: the answer as the API gives it; None until there is one.
        pieces: the answer as the page shows it, in order.
        note: a line below the answer.
        options: with which it was asked.
        repeats: how often it was answered anew with the same settings, each time with the next seed.
    """

    text: str
    parts: list[dict[str, Any]] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    message: dict[str, Any] | None = None
    pieces: list[str | Shown] = field(default_factory=list)
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 0

    def was_asked_with(self, settings: Mapping[str, Any]) -> bool:
        """Whether these settings, whose seed isn't moved on by repeats, are those of its answer."""
        return bool(self.options) and settings == {
            **self.options,
            "seed": (self.options["seed"] - self.repeats) % SEEDS,
        }

    def forget(self) -> None:
        """Drops the answer."""
        self.message, self.pieces, self.note = None, [], ""

    @property
    def pieces_shown(self) -> list[Shown]:
        """All of its media on the page."""
        return [*self.shown, *(piece for piece in self.pieces if isinstance(piece, Shown))]

    @property
    def said(self) -> int:
        """Bytes of the question and its answer in the API's form."""
        return _length([self.text, self.parts, self.message])

    @property
    def question(self) -> dict[str, Any]:
        """As the API takes it."""
        words = [{"type": "text", "text": self.text}] if self.text else []
        return {"role": "user", "content": [*self.parts, *words]}


class Talk:
    """One conversation.

    Args:
        folder: of its files; its name can't be guessed, and is all that a browser needs to see them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.turns: list[Turn] = []
        self.job: Job | None = None
        self.is_busy = False
        self.was_stopped = False
        self.step: tuple[str, int, int] | None = None  # of a generator: its medium, steps done, steps in all
        self.left: float | None = None

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory and on disk, whether questions were answered or not."""
        turns = list(self.turns)
        return sum(turn.said + sum(piece.size for piece in turn.pieces_shown) for turn in turns)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A block in which a question is read and answered; at its end no file is left that no turn shows."""
        self.is_busy, self.was_stopped = True, False
        try:
            yield
        finally:
            self.is_busy = False
            self.prune()

    def messages(self) -> list[dict[str, Any]]:
        """The last turn's question, and what was asked and answered before it, as the API takes them."""
        said: list[dict[str, Any]] = []
        for turn in self.answered():
            said += [turn.question, turn.message]  # type: ignore[list-item]  # it is answered
        return [*said, self.turns[-1].question]

    def media(self) -> tuple[set[str], set[str]]:
        """Modalities in the questions and in the answers of :meth:`messages`."""
        before = self.answered()
        asked = {shown.modality for turn in [*before, self.turns[-1]] for shown in turn.shown}
        return asked, {piece.modality for turn in before for piece in turn.pieces if isinstance(piece, Shown)}

    def answered(self) -> list[Turn]:
        """The turns before the last that have an answer. Of others the model is told nothing."""
        return [turn for turn in self.turns[:-1] if turn.message is not None]

    def new_file(self, ending: str) -> Path:
        """A path for a file with this ending."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{secrets.token_hex(4)}{ending}"

    def prune(self) -> None:
        """Removes the files of answers that were forgotten, and of questions that were refused."""
        if not self.turns:
            shutil.rmtree(self.folder, ignore_errors=True)
        shown = {piece.path.stem for turn in self.turns for piece in turn.pieces_shown}
        for path in self.folder.glob("*"):
            if path.name.split(".")[0] not in shown:
                path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Nobody waits for the answer that is being made."""
        self.was_stopped = True
        if self.job is not None:
            self.job.cancel()

    def clear(self) -> None:
        """Forgets all turns, and removes their files."""
        self.stop()
        self.turns = []
        shutil.rmtree(self.folder, ignore_errors=True)


class Talks:
    """The conversations of a server, by the page that each belongs to."""

    def __init__(self) -> None:
        self.folder = root() / secrets.token_hex(4)
        self.is_closing = False
        self._talks: dict[str, Talk] = {}
        self._lock = threading.Lock()

    def of(self, page: str) -> Talk:
        """The conversation of a page."""
        with self._lock:
            talk = self._talks.pop(page, None) or Talk(self.folder / secrets.token_urlsafe(16))
            talk.left = None
            self._talks[page] = talk
            self._tidy(page)
            return talk

    def leave(self, page: str) -> None:
        """The page was closed, or lost its connection: its answer is given up now, its conversation a while later.

        If the server is what ends, the answer is finished.
        """
        if self.is_closing:
            return
        with self._lock:
            self._tidy()
            if (talk := self._talks.get(page)) is not None:
                talk.stop()
                talk.left = time.monotonic()

    def file(self, folder: str, name: str) -> Path | None:
        """A file that a conversation shows; None if there is none of these names."""
        talk = self.named(folder)
        path = talk.folder / name if talk is not None and Path(name).name == name else None
        return path if path is not None and path.is_file() else None

    def named(self, folder: str) -> Talk | None:
        """The conversation whose folder is called so."""
        with self._lock:
            given = folder.encode()
            found = [talk for talk in self._talks.values() if secrets.compare_digest(talk.folder.name.encode(), given)]
        return found[0] if found else None

    def tidy(self) -> None:
        """Forgets what belongs to pages that were closed long enough ago."""
        with self._lock:
            self._tidy()

    def close(self) -> None:
        """Forgets all."""
        with self._lock:
            for talk in self._talks.values():
                talk.clear()
            self._talks = {}
            shutil.rmtree(self.folder, ignore_errors=True)

    def _tidy(self, asking: str | None = None) -> None:
        now = time.monotonic()
        gone = [page for page, talk in self._talks.items() if talk.left is not None and now - talk.left > AWAY]
        sizes = {page: talk.size for page, talk in self._talks.items() if page not in gone}
        for page in list(sizes):
            is_full = len(sizes) > MOST or sum(sizes.values()) > MOST_BYTES
            if is_full and page != asking and not self._talks[page].is_busy:
                gone.append(page)
                del sizes[page]
        for page in gone:
            self._talks.pop(page).clear()


def _length(value: Any) -> int:
    """Characters of all texts in what JSON can hold."""
    if isinstance(value, str):
        return len(value)
    inner: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_length, inner))
