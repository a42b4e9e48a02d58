"""The contract of an encoder: media -> F (B, N, D). Frozen, in eval mode, without gradient, whatever the stage says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from isthmus.types import Features, FrozenExpert, Media, Modality


class Encoder(FrozenExpert):
    """A frozen expert that turns media into tokens.

    Attributes:
        modalities: the media that it takes.
        checkpoint: where its weights come from; a part of the fingerprint that a trained bridge is tied to.
    """

    modalities: tuple[Modality, ...]
    checkpoint: Path

    def width(self, modality: Modality) -> int:
        """D, the width of this modality's tokens."""
        raise NotImplementedError

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """One medium, no batch axis, ready to be stacked. Runs in data workers: never needs the weights."""
        raise NotImplementedError

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """N for one preprocessed medium, known without running the encoder."""
        raise NotImplementedError

    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked inputs of one modality -> tokens (B, N, D), mask (B, N)."""
        raise NotImplementedError
