"""The base of encoders of square images of one size: inputs, sizes known without weights, choices of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.precision import Dtype, torch_dtype
from isthmus.request import Request
from isthmus.types import Features, Media, Modality

Array = np.ndarray[Any, Any]
Tokens = Literal["patch", "pooled"]


class ImageEncoder(Encoder):
    """An encoder of images.

    Args:
        checkpoint: where its weights come from.
        tokens: ``patch``, one token for each patch, row by row; ``pooled``, one token for each image.
        class_token: whether class tokens and registers, which precede the patches, are included.
        dtype: the type of the weights, in which the encoder computes. Features are float32 for the bridge in any case.

    Attributes:
        image_size: side of the expert's square input, pixels.
        shape: N and D of one image.

    Raises:
        ValueError: ``tokens`` is unknown, or ``class_token`` is asked for beside pooled tokens.
    """

    modalities = (Modality.IMAGE,)
    image_size: int
    shape: tuple[int, int]

    def __init__(self, checkpoint: Path, tokens: Tokens, class_token: bool, dtype: Dtype = "float32") -> None:
        super().__init__()
        self.dtype = torch_dtype(dtype)
        if tokens not in ("patch", "pooled"):
            raise ValueError(f"tokens: found '{tokens}'; expected 'patch' or 'pooled'")
        if class_token and tokens == "pooled":
            raise ValueError("class_token: found true beside tokens 'pooled'; expected it with tokens 'patch' only")
        self.checkpoint = checkpoint
        self.tokens = tokens
        self.class_token = class_token

    def picture(self, image: Array) -> Tensor:
        """(H, W, 3) uint8 -> (3, image_size, image_size) float32, preprocessed as in the expert's training."""
        raise NotImplementedError

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) -> (B, N, D). Called once the weights are loaded."""
        raise NotImplementedError

    def width(self, modality: Modality) -> int:
        """D, the width of tokens."""
        self._check(modality)
        return self.shape[1]

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """An image -> pixels (3, image_size, image_size).

        Raises:
            ValueError: the medium isn't an image, or it can't be used; the message names its source.
        """
        self._check(medium.modality)
        try:
            return {"pixels": self.picture(medium.array)}
        except ValueError as error:
            raise ValueError(f"{medium.source}: {error}") from error

    def request(self, modality: Modality) -> Request | None:
        """Images at no more than the resolution that is used."""
        return Request(side=self.image_size)

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """N, the same for every image."""
        self._check(modality)
        return self.shape[0]

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked pixels -> tokens (B, N, D), all valid."""
        self._check(modality)
        pixels = inputs["pixels"]
        if not self.is_loaded:
            self.load(pixels.device)
        tokens = self.image_tokens(pixels.to(next(self.parameters()).dtype))
        return Features(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def _check(self, modality: Modality) -> None:
        if modality is not Modality.IMAGE:
            raise ValueError(f"{modality}: this encoder serves images; give another encoder for it")


def leading_tokens(count: int, image_size: int, patch: int) -> int:
    """How many of a vision transformer's tokens precede its patches; 0 for an expert with fewer tokens."""
    return max(count - (image_size // patch) ** 2, 0)
