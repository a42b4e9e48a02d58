"""Evaluates a frozen encoder's pooled embeddings: by linear probes, and zero-shot by captions' embeddings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.pocket.world import COLOURS, MOTIONS, Concept, Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Modality

ATTRIBUTES = {
    Modality.IMAGE: ("digit", "colour"),
    Modality.VIDEO: ("digit", "colour", "motion"),
    Modality.AUDIO: ("digit",),
    Modality.POINTS: ("digit", "colour"),
}
"""The attributes of each modality."""
CLASSES = {"digit": 10, "colour": len(COLOURS), "motion": len(MOTIONS)}


def labels(concepts: list[Concept], attribute: str) -> Tensor:
    """(n,) int64: the index of each concept's digit, colour or motion."""
    values: dict[str, tuple[object, ...]] = {"digit": tuple(range(10)), "colour": COLOURS, "motion": tuple(MOTIONS)}
    return torch.tensor([values[attribute].index(getattr(concept, attribute)) for concept in concepts])


def embedded(
    encoder: Encoder, modality: Modality, split: Split, n: int, seed: int, world: World = DRAWN
) -> tuple[Tensor, list[Concept]]:
    """Pooled embeddings of media drawn from one split, (n, D), and their concepts."""
    random = np.random.default_rng(seed)
    concepts = [world.concept(random) for _ in range(n)]
    rows = []
    for start in range(0, n, 100):
        media = [encoder.preprocess(world.draw(modality, c, split, random)) for c in concepts[start : start + 100]]
        inputs = {key: torch.stack([medium[key] for medium in media]) for key in media[0]}
        rows.append(encoder(modality, inputs).tokens[:, 0])
    return torch.cat(rows), concepts


def linear_probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy on (n', D) of a logistic regression fitted to (n, D)."""
    from sklearn.linear_model import LogisticRegression

    centre, spread = train.mean(0), train.std(0) + 1e-6
    probe = LogisticRegression(C=1.0, max_iter=300).fit((train - centre) / spread, train_labels)
    return float(probe.score((test - centre) / spread, test_labels))


def zero_shot(embeddings: Tensor, captions: Tensor, truth: Tensor) -> float:
    """Share of embeddings (n, D) whose most similar caption (k, D) is the true one (n,)."""
    return float(((embeddings @ captions.T).argmax(1) == truth).float().mean())


def probe_modality(
    encoder: Encoder, modality: Modality, captions: Tensor, n: int, seed: int = 0, world: World = DRAWN
) -> dict[str, float]:
    """Test-split figures of one modality, by probes fitted to the train split.

    Args:
        encoder: gives one pooled token for each medium.
        modality: of the media.
        captions: (10, D), the embeddings of each digit's caption with no other attribute.
        n: number of media of each split.
        seed: of the media.
        world: the source of media.

    Returns:
        ``<modality>_<attribute>_probe`` for each attribute, and ``<modality>_digit_zero_shot``.
    """
    train, train_concepts = embedded(encoder, modality, "train", n, seed, world)
    test, test_concepts = embedded(encoder, modality, "test", n, seed + 1, world)
    figures = {
        f"{modality}_{name}_probe": linear_probe(train, labels(train_concepts, name), test, labels(test_concepts, name))
        for name in (ATTRIBUTES[modality] if world.has_attributes else ("digit",))
    }
    return figures | {f"{modality}_digit_zero_shot": zero_shot(test, captions, labels(test_concepts, "digit"))}
