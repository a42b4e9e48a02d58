"""A conversation with a model over several turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from isthmus.data.media.files import DEFAULT_LIMITS, read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.inference.replies import Content, MediaFolder, as_content, claim, write_record
from isthmus.model.memory import Memory
from isthmus.model.reply import Reply
from isthmus.paths import user_path
from isthmus.request import Request
from isthmus.types import MEDIA, Media, Modality

Requests = Mapping[Modality, Request | None]


class Answerer(Protocol):
    """What answers: a :class:`~isthmus.inference.pipeline.Pipeline`."""

    @property
    def sampling(self) -> Any:
        """How text is drawn; its ``seed`` is the first turn's."""

    @property
    def outputs(self) -> Sequence[str]:
        """The media that it makes."""

    def __call__(
        self,
        requests: Sequence[Any],
        require: Sequence[Sequence[str]] | None = None,
        seed: int | None = None,
        memory: Memory | None = None,
    ) -> list[Reply]:
        """Answers conversations; ``memory`` is that of a single one."""


class Session:
    """Keeps the turns: what the user gave and what the model made go back in as they were.

    A turn computes only what is new: media are preprocessed and encoded once, and the LLM reads on from the keys and
    values of what was said before. The model's weights must stay as they are. Where the conversation exceeds the LLM's
    context, its oldest exchanges are no longer read; what was once left out stays so. They still count as turns and
    are saved.

    Args:
        pipeline: answers each turn, under ``sampling.seed`` plus the turn's number.
        limits: caps on the user's files.
        requests: by modality, what of a file the model's encoder looks at; nothing else of it is read and kept.

    Attributes:
        messages: the turns so far, in the chat-content convention, media decoded.
        left_out: how many of the oldest are no longer read.
        memory: what was computed for the others.
    """

    def __init__(
        self, pipeline: Answerer, limits: MediaLimits = DEFAULT_LIMITS, requests: Requests | None = None
    ) -> None:
        self.pipeline = pipeline
        self.limits = limits
        self.requests = requests or {}
        self.messages: list[dict[str, Any]] = []
        self.left_out = 0
        self.memory = Memory()
        self._folders: dict[Path, MediaFolder] = {}
        self._saved: dict[Path, Path] = {}

    def reset(self) -> None:
        """Forgets the turns."""
        self.messages, self.left_out, self.memory, self._saved = [], 0, Memory(), {}

    def say(self, content: str | Content, require: Sequence[str] = ()) -> Reply:
        """One turn. Where it fails, the conversation stays as it was.

        Args:
            content: words, or a list of text and media in the chat-content convention.
            require: media that the reply must hold.

        Returns:
            The reply; its ``left_out`` counts from the conversation's beginning.

        Raises:
            ValueError: malformed content, a file that can't be read, or a reply that can't be given.
        """
        user = {"role": "user", "content": content if isinstance(content, str) else self.read(content)}
        seed = self.pipeline.sampling.seed + len(self.messages) // 2
        held = self.memory.media
        try:
            (reply,) = self.pipeline([[*self._read(), user]], [list(require)], seed, self.memory)
        except BaseException:
            self.memory.media = held
            raise
        self.messages += [user, {"role": "assistant", "content": as_content(reply.content)}]
        self.left_out += reply.left_out
        reply.left_out = self.left_out
        return reply

    def read(self, content: Content) -> Content:
        """See :func:`read_content`."""
        return read_content(content, self.limits, self.requests)

    def _read(self) -> list[dict[str, Any]]:
        """The messages that are still read: all but those left out, which are never the system's."""
        turns = [i for i, message in enumerate(self.messages) if message["role"] != "system"]
        gone = set(turns[: self.left_out])
        return [message for i, message in enumerate(self.messages) if i not in gone]

    def folder(self, path: Path) -> MediaFolder:
        """Where this conversation's media are written below a path: a medium that it has there isn't written again."""
        return self._folders.setdefault(path.resolve(), MediaFolder(path))

    def save(self, folder: str | Path) -> Path:
        """Writes ``conversation.json`` and every medium of the turns into a folder; the path of the former.

        It is a conversation in the chat-content convention, its files named relative to the folder. Saved there
        again it replaces what it wrote itself; beside another conversation it becomes ``conversation-002.json``.
        """
        folder = user_path(folder)
        media = self.folder(folder)
        messages = [
            message
            if isinstance(message["content"], str)
            else {**message, "content": media.save(message["content"], f"{number:03}_")}
            for number, message in enumerate(self.messages)
        ]
        own = folder.resolve()
        if own not in self._saved:
            self._saved[own] = claim(folder / "conversation.json")
        write_record({"messages": messages}, self._saved[own])
        return self._saved[own]


def read_content(content: Content, limits: MediaLimits = DEFAULT_LIMITS, requests: Requests | None = None) -> Content:
    """Decodes the files among a content, once, as far as is asked for: later turns don't read them again.

    Raises:
        ValueError: a file is missing, too large or damaged.
    """
    return [
        {**item, item["type"]: _medium(item[item["type"]], Modality(item["type"]), limits, requests or {})}
        if isinstance(item, Mapping) and item.get("type") in MEDIA and isinstance(item.get(item["type"]), str | Path)
        else item
        for item in content
    ]


def _medium(path: str | Path, modality: Modality, limits: MediaLimits, requests: Requests) -> Media:
    return read_media(path, modality, limits, request=requests.get(modality))
