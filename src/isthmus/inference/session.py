"""A conversation with a model over several turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from isthmus.data.media.files import DEFAULT_LIMITS, read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.reply_files import Content, MediaFolder, as_content, claim, write_record
from isthmus.modalities import is_medium
from isthmus.model.memory import Memory
from isthmus.model.reply import Reply
from isthmus.paths import user_path
from isthmus.request import Request
from isthmus.types import Media, Modality

Requests = Mapping[Modality, Request | None]


class Answerer(Protocol):
    """The interface of a :class:`~isthmus.inference.pipeline.Pipeline`."""

    @property
    def sampling(self) -> Any:
        """The sampling of text; its ``seed`` is the first turn's."""

    @property
    def outputs(self) -> Sequence[str]:
        """The media that it generates."""

    def __call__(
        self,
        requests: Sequence[Any],
        require: Sequence[Sequence[str]] | None = None,
        seed: int | None = None,
        memory: Memory | None = None,
    ) -> list[Reply]:
        """Answers conversations; ``memory`` is that of a single one."""


class Session:
    """Keeps a conversation's turns; the user's and the model's messages are input to later turns unchanged.

    A turn computes only what is new: media are preprocessed and encoded once, and the LLM continues from the keys and
    values of earlier turns. The model's weights must not change. If the conversation exceeds the LLM's context, its
    oldest exchanges are left out from then on. They still count as turns and are saved.

    Args:
        pipeline: answers each turn, with ``sampling.seed`` plus the turn's number.
        limits: caps on the user's files.
        requests: by modality, the part of a file that the model's encoder uses; only that is read and kept.

    Attributes:
        messages: the turns so far, in the chat-content convention, with decoded media.
        left_out: number of the oldest messages that the model no longer reads.
        memory: cached results of the other messages.
    """

    def __init__(
        self, pipeline: Answerer, limits: MediaLimits = DEFAULT_LIMITS, requests: Requests | None = None
    ) -> None:
        self.pipeline = pipeline
        self.limits = limits
        # Pictures and recordings are kept whole, since a saved conversation has them; films would be too large for it.
        self.requests = {name: of for name, of in (requests or {}).items() if of is not None and of.frames is not None}
        self.messages: list[dict[str, Any]] = []
        self.left_out = 0
        self.memory = Memory()
        self._folders: dict[Path, MediaFolder] = {}
        self._saved: dict[Path, Path] = {}

    def reset(self) -> None:
        """Drops all turns."""
        self.messages, self.left_out, self.memory, self._saved = [], 0, Memory(), {}

    def say(self, content: str | Content, require: Sequence[str] = ()) -> Reply:
        """Adds one turn. If it fails, the conversation is unchanged.

        Args:
            content: words, or a list of text and media in the chat-content convention.
            require: media that the reply must hold.

        Returns:
            The reply; its ``left_out`` counts from the conversation's beginning.

        Raises:
            ValueError: malformed content, a file that can't be read, or a request that can't be answered.
        """
        user = {"role": "user", "content": content if isinstance(content, str) else self.read(content)}
        seed = self.pipeline.sampling.seed + len(self.messages) // 2
        media = self.memory.media
        try:
            (reply,) = self.pipeline([[*self._read(), user]], [list(require)], seed, self.memory)
        except BaseException:
            self.memory.media = media
            raise
        self.messages += [user, {"role": "assistant", "content": as_content(reply.content)}]
        self.left_out += reply.left_out
        reply.left_out = self.left_out
        return reply

    def read(self, content: Content) -> Content:
        """See :func:`read_content`."""
        return read_content(content, self.limits, self.requests)

    def _read(self) -> list[dict[str, Any]]:
        """The messages that the model reads: all except those left out, which never include system messages."""
        turns = [i for i, message in enumerate(self.messages) if message["role"] != "system"]
        gone = set(turns[: self.left_out])
        return [message for i, message in enumerate(self.messages) if i not in gone]

    def folder(self, path: Path) -> MediaFolder:
        """The folder of this conversation's media at a path: media that it has written there aren't written again."""
        return self._folders.setdefault(path.resolve(), MediaFolder(path))

    def save(self, folder: str | Path) -> Path:
        """Writes ``conversation.json`` and all media into a folder, and returns the path of the former.

        It is a conversation in the chat-content convention, with file names relative to the folder. Saving again
        replaces this session's own file; if the folder holds another conversation, it is ``conversation-002.json``.
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
    """Decodes a content's files once, only the requested parts; later turns don't read them again.

    Raises:
        ValueError: a file is missing, too large or damaged.
    """
    return [
        {**item, item["type"]: _medium(item[item["type"]], Modality(item["type"]), item.get("rate"), limits, requests)}
        if isinstance(item, Mapping) and is_medium(item.get("type")) and isinstance(item.get(item["type"]), str | Path)
        else item
        for item in content
    ]


def _medium(path: str | Path, modality: Modality, rate: Any, limits: MediaLimits, requests: Requests | None) -> Media:
    rate = float(rate) if isinstance(rate, int | float) else None
    return read_media(path, modality, limits, request=(requests or {}).get(modality), rate=rate)
