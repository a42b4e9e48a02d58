"""Encodes a variable number of views of one medium (frames, tiles), each by an image encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.types import Features, Modality

COUNT = "views"
"""The key of the number of views that aren't padding."""
OWN = "view."
"""The prefix of the image encoder's keys, so that nested views have separate counts."""


def stacked_views(views: Sequence[Mapping[str, Tensor]], room: int) -> dict[str, Tensor]:
    """Preprocessed views of one medium -> tensors (room, ...), zero-padded, and the number of views ()."""
    inputs = {COUNT: torch.tensor(len(views))}
    for key, first in views[0].items():
        stacked = torch.zeros(room, *first.shape, dtype=first.dtype)
        stacked[: len(views)] = torch.stack([view[key] for view in views])
        inputs[OWN + key] = stacked
    return inputs


def _own(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(OWN): value for key, value in inputs.items() if key != COUNT}


def first_views(inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The views of one preprocessed medium, one by one, without padding."""
    own = _own(inputs)
    return [{key: value[index] for key, value in own.items()} for index in range(int(inputs[COUNT]))]


def encoded_views(encoder: Encoder, inputs: Mapping[str, Tensor]) -> Features:
    """Stacked inputs (B, room, ...) -> tokens (B, V, N, D), mask (B, V, N); V is the largest number of views.

    Padding isn't encoded; its tokens are zero and masked.
    """
    counts = inputs[COUNT]
    most = int(counts.max())
    real = torch.arange(most, device=counts.device) < counts[:, None]
    features = encoder(Modality.IMAGE, {key: value[:, :most][real] for key, value in _own(inputs).items()})
    tokens = features.tokens.new_zeros(*real.shape, *features.tokens.shape[1:])
    mask = features.mask.new_zeros(*real.shape, features.mask.shape[1])
    tokens[real], mask[real] = features.tokens, features.mask
    return Features(tokens, mask)
