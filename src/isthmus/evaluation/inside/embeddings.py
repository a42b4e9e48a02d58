"""What an encoder and its bridge make of a set of media: one vector a medium, before the bridge and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.data.conversations.schema import Conversation, MediumItem, Message
from isthmus.model import AnyToAny
from isthmus.types import Media, Modality

ROWS = 32


@dataclass(frozen=True)
class MediaEmbeddings:
    """A vector for each of n media.

    Attributes:
        features: (n, D), the mean of a medium's valid tokens F.
        projected: (n, E), the mean of its valid positions P in the LLM's space.
    """

    features: Tensor
    projected: Tensor


@torch.no_grad()
def embeddings_of(model: AnyToAny, modality: Modality, media: Sequence[Media]) -> MediaEmbeddings:
    """F and P of media of one modality.

    Args:
        model: with its weights.
        modality: of the media.
        media: n, decoded.

    Raises:
        ValueError: the model has no encoder for the modality, or there are no media.
    """
    side = model.input_side
    if side is None or modality not in side.serving:
        taken = ", ".join(model.inputs) or "none"
        raise ValueError(
            f"modality: found {modality}; expected one that the model takes: {taken}. Fix: choose another."
        )
    if not media:
        raise ValueError(f"media: found none; expected at least one {modality}. Fix: give some.")
    features, projected = [], []
    for start in range(0, len(media), ROWS):
        shown = [
            Conversation((Message("user", (MediumItem(modality, medium),)),)) for medium in media[start : start + ROWS]
        ]
        given = model.prompts(shown).media[modality]
        encoded = side.features(modality, given)
        tokens, mask = side.projector(modality)(encoded)
        order = torch.arange(len(shown)) if given.index is None else given.index.cpu()
        features.append(_mean(encoded.tokens, encoded.mask)[order])
        projected.append(_mean(tokens, mask)[order])
    return MediaEmbeddings(torch.cat(features), torch.cat(projected))


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """(n, N, D) -> (n, D), over valid tokens, on the CPU."""
    valid = mask[..., None].to(tokens.dtype)
    return ((tokens * valid).sum(1) / valid.sum(1)).float().cpu()
