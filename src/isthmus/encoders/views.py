"""Several views of one medium (frames, tiles), each through an image encoder, however many a medium has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.types import Features, Modality

COUNT = "views"
"""The key of how many views are real."""
OWN = "view."
"""What precedes the image encoder's own keys, so that views of views keep their counts apart."""


def stacked_views(views: Sequence[Mapping[str, Tensor]], room: int) -> dict[str, Tensor]:
    """Preprocessed views of one medium -> each tensor (room, ...), zeros behind the real ones, and their count ()."""
    inputs = {COUNT: torch.tensor(len(views))}
    for key, first in views[0].items():
        stacked = torch.zeros(room, *first.shape, dtype=first.dtype)
        stacked[: len(views)] = torch.stack([view[key] for view in views])
        inputs[OWN + key] = stacked
    return inputs


def _own(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(OWN): value for key, value in inputs.items() if key != COUNT}


def first_views(inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The real views of one preprocessed medium, one by one."""
    own = _own(inputs)
    return [{key: value[index] for key, value in own.items()} for index in range(int(inputs[COUNT]))]


def encoded_views(encoder: Encoder, inputs: Mapping[str, Tensor]) -> Features:
    """Stacked inputs (B, room, ...) -> tokens (B, V, N, D), mask (B, V, N); V is the most views of the batch.

    Only real views run. What stands in the others' places is zero and masked.
    """
    counts = inputs[COUNT]
    most = int(counts.max())
    real = torch.arange(most, device=counts.device) < counts[:, None]
    features = encoder(Modality.IMAGE, {key: value[:, :most][real] for key, value in _own(inputs).items()})
    tokens = features.tokens.new_zeros(*real.shape, *features.tokens.shape[1:])
    mask = features.mask.new_zeros(*real.shape, features.mask.shape[1])
    tokens[real], mask[real] = features.tokens, features.mask
    return Features(tokens, mask)
