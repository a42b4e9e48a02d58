"""A conversation with a model over several turns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from isthmus.data.limits import MediaLimits
from isthmus.data.media import DEFAULT_LIMITS, read_media
from isthmus.inference.replies import Content, as_content, save_content
from isthmus.model.reply import Reply
from isthmus.paths import user_path
from isthmus.types import MEDIA, Modality


class Answerer(Protocol):
    """What answers: a :class:`~isthmus.inference.pipeline.Pipeline`."""

    @property
    def sampling(self) -> Any:
        """How text is drawn; its ``seed`` is the first turn's."""

    @property
    def outputs(self) -> Sequence[str]:
        """The media that it makes."""

    def __call__(
        self, requests: Sequence[Any], require: Sequence[Sequence[str]] | None = None, seed: int | None = None
    ) -> list[Reply]:
        """Answers conversations."""


class Session:
    """Keeps the turns: what the user gave and what the model made go back in as they were.

    Args:
        pipeline: answers each turn, under ``sampling.seed`` plus the turn's number.
        limits: caps on the user's files.

    Attributes:
        messages: the turns so far, in the chat-content convention, media decoded.
    """

    def __init__(self, pipeline: Answerer, limits: MediaLimits = DEFAULT_LIMITS) -> None:
        self.pipeline = pipeline
        self.limits = limits
        self.messages: list[dict[str, Any]] = []

    def say(self, content: str | Content, require: Sequence[str] = ()) -> Reply:
        """One turn. Where it fails, the conversation stays as it was.

        Args:
            content: words, or a list of text and media in the chat-content convention.
            require: media that the reply must hold.

        Raises:
            ValueError: malformed content, a file that can't be read, or a reply that can't be given.
        """
        user = {"role": "user", "content": content if isinstance(content, str) else read_content(content, self.limits)}
        seed = self.pipeline.sampling.seed + len(self.messages) // 2
        (reply,) = self.pipeline([[*self.messages, user]], [list(require)], seed)
        self.messages += [user, {"role": "assistant", "content": as_content(reply.content)}]
        return reply

    def reset(self) -> None:
        """Forgets the turns."""
        self.messages = []

    def save(self, folder: str | Path) -> Path:
        """Writes ``conversation.json`` and every medium of the turns into a folder; the path of the former.

        It is a conversation in the chat-content convention, its files named relative to the folder.
        """
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        messages = [
            message
            if isinstance(message["content"], str)
            else {**message, "content": save_content(message["content"], folder, f"{number:03}_")}
            for number, message in enumerate(self.messages)
        ]
        path = folder / "conversation.json"
        path.write_text(json.dumps({"messages": messages}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def read_content(content: Content, limits: MediaLimits = DEFAULT_LIMITS) -> Content:
    """Decodes the files among a content, once: later turns don't read them again.

    Raises:
        ValueError: a file is missing, too large or damaged.
    """
    return [
        {**item, item["type"]: read_media(item[item["type"]], Modality(item["type"]), limits)}
        if isinstance(item, Mapping) and item.get("type") in MEDIA and isinstance(item.get(item["type"]), str | Path)
        else item
        for item in content
    ]
