"""Documents in the frequency domain: large pages become few tokens, without trained weights.

DocPedia (Feng et al., arXiv 2311.11810) reads pages of 2560 x 2560 pixels as block-wise DCT coefficients, by a trained
vision tower whose weights were never published. Here the coefficients themselves are the tokens, and the bridge learns
to interpret them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.encoders.checkpoint import read_config
from isthmus.encoders.vision.block_dct import BLOCK, CHROMA_STEPS, LUMA_STEPS, frequencies, zigzag
from isthmus.part_card import PartCard
from isthmus.paths import checkpoint_path
from isthmus.types import Features, Media, Modality

Array = np.ndarray[Any, Any]
PAPER = 255
"""The padding of a page that isn't square: white."""


@dataclass(frozen=True)
class FrequencyConfig:
    """How a page is converted to tokens.

    Attributes:
        image_size: side of the square that a page is fitted into, pixels.
        blocks: side of a token, blocks: 8 give a token for every 64 x 64 pixels, 1600 for a full page.
        luma: number of a block's brightness coefficients that are kept, the lowest frequencies; at most 64.
        chroma: likewise for each of its two colour differences; at most 64.

    Raises:
        ValueError: a size is out of range, or a token's blocks don't fill the square.
    """

    image_size: int = 2560
    blocks: int = 8
    luma: int = 15
    chroma: int = 3

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.image_size < 1 or self.image_size % (BLOCK * self.blocks):
            raise ValueError(
                f"image_size, blocks: found {self.image_size} and {self.blocks}; expected an image_size that {BLOCK} "
                "times blocks divides"
            )
        if not 1 <= self.luma <= BLOCK * BLOCK or not 0 <= self.chroma <= BLOCK * BLOCK:
            raise ValueError(f"luma, chroma: found {self.luma} and {self.chroma}; expected 1 to 64 and 0 to 64")

    @property
    def side(self) -> int:
        """Tokens along a side of the full square."""
        return self.image_size // (BLOCK * self.blocks)

    @property
    def kept(self) -> int:
        """The number of coefficients kept of one block."""
        return self.luma + 2 * self.chroma

    @property
    def width(self) -> int:
        """D, the number of coefficients of one token's blocks."""
        return self.kept * self.blocks**2


class FrequencyEncoder(Encoder):
    """Images, especially pages, by the lowest frequencies of their 8 x 8 blocks, in units of visible steps.

    Larger images are downscaled to fit the square; smaller ones keep their size. Tokens are ordered row by row, and
    those that lie wholly in the padding are masked.

    Args:
        checkpoint: a folder of ``config.json``, with a section ``frequency`` of any fields of
            :class:`FrequencyConfig`. There are no weights.

    Raises:
        ValueError: the folder or its ``config.json`` can't be used.
    """

    card = PartCard(
        takes="image (pages)",
        gives="F (B, N, D): a token for every 64 x 64 pixels",
        widths="1344",
        weights="none: nothing is learnt",
        checkpoint="a folder of config.json",
    )

    modalities = (Modality.IMAGE,)
    scale: Tensor

    def __init__(self, checkpoint: str | Path) -> None:
        super().__init__()
        self.checkpoint = checkpoint_path(checkpoint)
        self.config = read_config(self.checkpoint, "frequency", FrequencyConfig())

    def materialize(self) -> None:
        """Computes the scale: the reciprocal of each kept coefficient's quantisation step."""
        order = zigzag()
        luma, chroma = (np.asarray(steps)[order] for steps in (LUMA_STEPS, CHROMA_STEPS))
        steps = np.concatenate([luma[: self.config.luma], *[chroma[: self.config.chroma]] * 2])
        self.register_buffer("scale", torch.tensor(1 / steps, dtype=torch.float32), persistent=False)

    def width(self, modality: Modality) -> int:
        """D, the number of coefficients of one token's blocks."""
        return self.config.width

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """An image -> coefficients (kept, image_size / 8, image_size / 8) float16; extent (2,): token rows, columns.

        Raises:
            ValueError: the medium isn't an image.
        """
        if medium.modality is not Modality.IMAGE:
            raise ValueError(f"{medium.modality}: this encoder serves images; give another encoder for it")
        config = self.config
        page = self._fitted(medium.array)
        token = BLOCK * config.blocks
        extent = [-(-side // token) for side in page.shape[:2]]
        square = np.full((extent[0] * token, extent[1] * token, 3), PAPER, np.uint8)
        square[: page.shape[0], : page.shape[1]] = page
        spectrum = frequencies(square)
        kept = [spectrum[0, ..., : config.luma], *(spectrum[i, ..., : config.chroma] for i in (1, 2))]
        blocks = config.image_size // BLOCK
        # No coefficient exceeds 1024, where float16 is exact to a quarter; the finest quantisation step is 10.
        coefficients = np.zeros((config.kept, blocks, blocks), np.float16)
        coefficients[:, : extent[0] * config.blocks, : extent[1] * config.blocks] = np.moveaxis(
            np.concatenate(kept, axis=-1), -1, 0
        )
        return {"coefficients": torch.from_numpy(coefficients), "extent": torch.tensor(extent)}

    def _fitted(self, image: Array) -> Array:
        height, width = image.shape[:2]
        scale = self.config.image_size / max(height, width)
        if scale >= 1:
            return image
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """The number of tokens that the image covers, at least in part."""
        return int(inputs["extent"].prod())

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked inputs -> tokens (B, N, D), mask (B, N); N is that of the rectangle around all images."""
        coefficients, extents = inputs["coefficients"], inputs["extent"]
        if not self.is_loaded:
            self.load(coefficients.device)
        rows, columns = (int(most) for most in extents.amax(0))
        side = self.config.blocks
        scaled = coefficients[:, :, : rows * side, : columns * side].to(self.scale.dtype) * self.scale[:, None, None]
        # (B, kept, rows, side, columns, side)
        grouped = scaled.unflatten(3, (columns, side)).unflatten(2, (rows, side))
        tokens = grouped.permute(0, 2, 4, 1, 3, 5).reshape(len(scaled), rows * columns, -1)
        is_row = torch.arange(rows, device=extents.device) < extents[:, :1]
        is_column = torch.arange(columns, device=extents.device) < extents[:, 1:]
        return Features(tokens, (is_row[:, :, None] & is_column[:, None, :]).flatten(1))
