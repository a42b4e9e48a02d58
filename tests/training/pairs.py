"""Pairs of answers over the tiny experts' media, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_world import tiny_model

from isthmus.backbones import LoraSettings
from isthmus.data.batching.pairs import Pair
from isthmus.data.conversations.schema import ContentItem, MediumItem, Message, TextItem
from isthmus.pocket.tasks import Draw
from isthmus.training import LossWeights, Stage, TrainingModule
from isthmus.training.objectives.base import Objective
from isthmus.training.objectives.reference import Reference
from isthmus.training.trainable import set_trainable
from isthmus.types import Batch, Modality

TRAINS = ["lora", "signal_rows", "media_tags", "output_projectors"]


def said(text: str) -> Message:
    """A turn of words alone."""
    return Message("assistant", (TextItem(text),))


def text_pairs() -> list[Pair]:
    """Pairs in words, whose sides differ in length."""
    spoken = [("say it", "a seven", "no"), ("what is it?", "a red two", "it is blue, I think"), ("and?", "x", "yy")]
    return [
        Pair((Message("user", (TextItem(asked),)), said(good)), {"id": asked, "seed": 5 + row}, said(bad))
        for row, (asked, good, bad) in enumerate(spoken)
    ]


def media_pairs(count: int = 3) -> list[Pair]:
    """Pairs of answers with an image, a video or a sound each, drawn by the pocket world."""
    source = Draw(size=4 * count, modalities=("image", "video", "audio"), with_content=True)
    pairs = []
    for index in range(count):
        one, other = source[index], source[index + 3]  # of one modality
        pairs.append(Pair(one.messages, {"id": str(index), "seed": 11 + index}, other.messages[-1]))
    return pairs


def ready(
    paths: dict[str, Path],
    objective: Objective,
    trains: Sequence[str] = TRAINS,
    losses: LossWeights | None = None,
    **model: Any,
) -> TrainingModule:
    """A built model at a stage of this objective, moved away from its reference."""
    made = tiny_model(paths, lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0), max_tokens=1024, **model)
    made.configure_model()
    module = TrainingModule(made, Stage(list(trains), losses or LossWeights(), objective=objective, steps=1))
    set_trainable(made, trains, "preference")
    torch.manual_seed(1)
    with torch.no_grad():
        for _, own in made.named_owned():
            own.add_(torch.randn_like(own), alpha=0.05)
        module.reference = Reference.of(made)
        for _, own in made.named_owned():
            if own.requires_grad:
                own.add_(torch.randn_like(own), alpha=0.05)
    return module


def without_media(message: Message) -> Message:
    """The same answer in words alone."""
    return Message(message.role, tuple(item for item in message.content if isinstance(item, TextItem)))


def image(caption: str, media: Any = None) -> ContentItem:
    """An image to be generated."""
    return MediumItem(Modality.IMAGE, media, caption)


def batch_of(module: TrainingModule, pairs: Sequence[Pair]) -> Batch:
    """The pairs as the stage's training batch."""
    return module.collator("train")(pairs)
