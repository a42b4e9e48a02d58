"""Encodes a variable number of views of one medium (frames, tiles), each by an image encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.layout import on_device
from isthmus.types import COUNT, Features, Modality

VIEWS = f"view_{COUNT}"
"""The key of the number of views that aren't padding."""
OWN = "view."
"""The prefix of the image encoder's keys, so that nested views have separate counts."""


def stacked_views(views: Sequence[Mapping[str, Tensor]], room: int) -> dict[str, Tensor]:
    """Preprocessed views of one medium -> tensors (room, ...), zero-padded, and the number of views ()."""
    inputs = {VIEWS: torch.tensor(len(views))}
    for key, first in views[0].items():
        stacked = torch.zeros(room, *first.shape, dtype=first.dtype)
        stacked[: len(views)] = torch.stack([view[key] for view in views])
        inputs[OWN + key] = stacked
    return inputs


def _own(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(OWN): value for key, value in inputs.items() if key != VIEWS}


def first_views(inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The views of one preprocessed medium, one by one, without padding."""
    own = _own(inputs)
    return [{key: value[index] for key, value in own.items()} for index in range(int(inputs[VIEWS]))]


def encoded_views(encoder: Encoder, inputs: Mapping[str, Tensor]) -> Features:
    """Stacked inputs (B, room, ...) -> tokens (B, V, N, D), mask (B, V, N); V is the largest number of views.

    Padding isn't encoded; its tokens are zero and masked.
    """
    counts: list[int] = inputs[VIEWS].tolist()
    most = max(counts)
    places = [medium * most + view for medium, count in enumerate(counts) for view in range(count)]
    own = {key: value[:, :most].flatten(0, 1) for key, value in _own(inputs).items()}
    features = encoder(Modality.IMAGE, {k: v.index_select(0, on_device(places, v.device)) for k, v in own.items()})
    where = on_device(places, features.tokens.device)

    def placed(found: Tensor) -> Tensor:
        empty = found.new_zeros(len(counts) * most, *found.shape[1:])
        return empty.index_copy(0, where, found).view(len(counts), most, *found.shape[1:])

    return Features(placed(features.tokens), placed(features.mask))
