"""Any encoder of this package as an extractor: its pooled token, or the mean of its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from isthmus.cache.identity import identity
from isthmus.encoders.base import Encoder
from isthmus.evaluation.metrics.extractors.base import Extractor, as_array, at_least_one, measuring_device
from isthmus.request import Request
from isthmus.types import COUNT, Media, Modality

Array = np.ndarray[Any, Any]


class EncoderFeatures(Extractor):
    """An encoder's view of media, preprocessed as the encoder does it.

    With ``tokens: pooled`` an encoder gives one token, which is taken; of several, the mean of the valid ones.

    Args:
        encoder: such as ImageBind, PointBert, Beats, Whisper, TransformersVision (CLIP, DINOv2), FramesEncoder.
        chunk: media that it reads at once.

    Raises:
        ValueError: a chunk below 1.
    """

    def __init__(self, encoder: Encoder, chunk: int = 32) -> None:
        self.encoder = encoder
        self.modalities = encoder.modalities
        self.chunk = at_least_one(chunk)

    def request(self, modality: Modality) -> Request | None:
        asked = self.encoder.request(modality)
        return None if asked is None else replace(asked, side=None)

    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        device = measuring_device()
        self.encoder.load(device)
        inputs = [self.encoder.preprocess(medium) for medium in media]
        stacked = {name: torch.stack([one[name] for one in inputs]) for name in inputs[0]}
        moved = {name: each if name.endswith(COUNT) else each.to(device) for name, each in stacked.items()}
        with torch.no_grad():
            found = self.encoder(media[0].modality, moved)
        valid = found.mask[..., None]
        return as_array((found.tokens.float() * valid).sum(1) / valid.sum(1)), None

    def identity(self) -> Mapping[str, Any]:
        return {
            "extractor": type(self.encoder).__name__,
            "weights": identity(self.encoder),  # of settings and preprocessing too
            "layer": f"{getattr(self.encoder, 'tokens', 'all')} tokens, mean",
            "preprocessing": "the encoder's own",
            "chunk": self.chunk,
        }
