"""Stored answers for metrics: replies' media as files, and references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.conversations.schema import Conversation, MediumItem, Message, TextItem
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.media.files import save_media
from isthmus.evaluation.predictions.answered import Answered
from isthmus.types import Media, Modality

SUFFIX = {"image": ".png", "audio": ".wav", "points": ".npy", "video": ".mkv"}


def picture(seed: int, side: int = 16) -> Media:
    return Media(Modality.IMAGE, np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def sound(seed: int, seconds: float = 0.4, rate: int = 16000) -> Media:
    waves = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
    return Media(Modality.AUDIO, waves, rate)


def clip(seed: int, frames: int = 6, side: int = 16) -> Media:
    array = np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    return Media(Modality.VIDEO, array, 8.0)


def cloud(seed: int, points: int = 80, scale: float = 1.0) -> Media:
    random = np.random.default_rng(seed)
    places = random.normal(size=(points, 3)) * scale * np.array([1.0, 2.0, 0.5])
    colours = random.uniform(size=(points, 3))
    return Media(Modality.POINTS, np.concatenate([places, colours], axis=1).astype(np.float32))


def answer(
    folder: Path, number: int, made: Sequence[Media], expected: Sequence[Media] = (), prompt: str | None = None
) -> Answered:
    """A conversation that asks in words, its reply's media as files in ``folder``, and a reference with media."""
    files = []
    for place, medium in enumerate(made):
        path = save_media(medium, folder / f"{number}-{place}{SUFFIX[medium.modality]}")
        files.append((medium.modality, path))
    asked = Message("user", (TextItem(prompt or f"prompt {number}"),))
    reference = Message("assistant", tuple(MediumItem(one.modality, one) for one in expected))
    details: dict[str, Any] = {}
    return Answered("set", number, f"set/{number}", [asked], reference if expected else None, details, "", files)


class Shown(ConversationSource):
    """A source of given media, one a conversation."""

    name = "shown"

    def __init__(self, media: Sequence[Media]) -> None:
        self.media = media

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> Conversation:
        medium = self.media[index]
        return Conversation((Message("user", (MediumItem(medium.modality, medium),)),))
