"""Recordings by a network in a transformers folder: CLAP, and classifiers such as AST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus.encoders.mel import resampled
from isthmus.evaluation.metrics.extractors.base import Extractor, at_least_one
from isthmus.evaluation.metrics.extractors.published import PublishedNetwork
from isthmus.published import read_published
from isthmus.request import Request
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]
IS_LONGER = "is_longer"


class TransformersAudio(Extractor):
    """CLAP's embeddings; or features and logits of an ``...ForAudioClassification``, such as AST of AudioSet.

    Args:
        checkpoint: the folder: configuration, feature extractor and weights.
        seconds: the beginning of a recording that is heard; the rest isn't. CLAP and AST hear 10.
        chunk: recordings that it reads at once.

    Raises:
        ValueError: the folder can't be read, or a number that isn't above 0.
    """

    modalities: tuple[Modality, ...] = (Modality.AUDIO,)

    def __init__(self, checkpoint: str | Path, seconds: float = 10.0, chunk: int = 16) -> None:
        from transformers import AutoFeatureExtractor

        if not seconds > 0:
            raise ValueError(f"seconds: found {seconds}; expected a number above 0. Fix: raise it.")
        self.network = PublishedNetwork(checkpoint, projected=None, unit_length=False)
        try:
            self.extractor: Any = read_published(AutoFeatureExtractor, self.network.folder)
        except (OSError, KeyError) as error:
            raise ValueError(
                f"{self.network.folder}: found no preprocessor_config.json that transformers can read ({error}); "
                "expected a feature extractor's. Fix: download that file too."
            ) from error
        self.seconds = seconds
        self.chunk = at_least_one(chunk)

    def request(self, modality: Modality) -> Request | None:
        return None

    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        rate = self.extractor.sampling_rate
        heard = []
        for medium in media:
            assert medium.rate is not None  # Media ensures it for sound
            heard.append(resampled(medium.array, medium.rate, rate)[: round(self.seconds * rate)])
        inputs = dict(self.extractor(heard, sampling_rate=rate, return_tensors="pt"))
        if IS_LONGER in inputs:  # CLAP's extractor calls a random one longer where none is
            inputs[IS_LONGER] = torch.zeros(len(media), 1, dtype=torch.bool)
        return self.network(inputs)

    def identity(self) -> Mapping[str, Any]:
        own = {"rate": self.extractor.sampling_rate, "seconds": self.seconds, "chunk": self.chunk}
        return {**self.network.identity(), **own}
