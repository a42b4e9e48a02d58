"""Answers to miniatures of benchmarks, as a test run stores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.media.files import save_media
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Media, Modality

Array = np.ndarray


def answers_to(
    source: ConversationSource, folder: Path, make: Callable[[int], Media | None], name: str = "own"
) -> Sequence[Answered]:
    """An answer to each conversation: words, and the medium that is made for its index, if any."""
    found = []
    for index in range(len(source)):
        conversation, medium = source[index], make(index)
        files = []
        if medium is not None:
            path = (
                folder
                / name
                / f"{index:07d}-0{medium.modality.spec.exact[0] if medium.modality.spec.exact else '.png'}"
            )
            files = [(medium.modality, save_media(medium, path))]
        expected = conversation.messages[-1] if conversation.messages[-1].role == "assistant" else None
        told = str(conversation.details["id"])
        prompt = conversation.prompt().messages
        found.append(Answered(name, index, told, prompt, expected, conversation.details, "here", files))
    return found


def grey(shade: int, side: int = 8) -> Media:
    return Media(Modality.IMAGE, np.full((side, side, 3), shade, dtype=np.uint8))


def film(shade: int) -> Media:
    return Media(Modality.VIDEO, np.full((4, 16, 16, 3), shade, dtype=np.uint8), rate=8.0)
