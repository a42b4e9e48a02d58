"""Stored answers, written in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.data.conversations.schema import ContentItem, Message, TextItem
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Modality


def answered(
    text: str,
    index: int = 0,
    expected: str | Sequence[ContentItem] | None = None,
    asked: str | Sequence[ContentItem] = "what is it?",
    files: Sequence[tuple[Modality, Path]] = (),
    **details: Any,
) -> Answered:
    """A reply, its reference (words, or any content) and its conversation's details."""
    prompt = Message("user", _content(asked))
    reference = None if expected is None else Message("assistant", _content(expected))
    return Answered("set", index, f"set/{index}", (prompt,), reference, details, text, files)


def _content(said: str | Sequence[ContentItem]) -> tuple[ContentItem, ...]:
    return (TextItem(said),) if isinstance(said, str) else tuple(said)
