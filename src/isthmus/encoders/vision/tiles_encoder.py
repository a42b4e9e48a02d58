"""Encodes large images as tiles at full resolution and a thumbnail, each by an image encoder of a small fixed size.

LLaVA-NeXT (any resolution, section 3.1 of arXiv 2407.07895) chooses the grid; as in Monkey (arXiv 2311.06607, section
3.1) the image is resized to fill it, and the tiles don't overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from isthmus.encoders.base import Encoder
from isthmus.encoders.views import encoded_views, first_views, stacked_views
from isthmus.part_card import PartCard
from isthmus.types import Features, Media, Modality

Array = np.ndarray[Any, Any]
LLAVA_NEXT = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))


def best_grid(height: int, width: int, grids: Sequence[tuple[int, int]], tile_size: int) -> tuple[int, int]:
    """The grid (rows, columns) that keeps most of an image's pixels; among equals, the one with the fewest pixels."""

    def score(grid: tuple[int, int]) -> tuple[int, int]:
        rows, columns = grid[0] * tile_size, grid[1] * tile_size
        scale = min(rows / height, columns / width)
        kept = min(int(height * scale) * int(width * scale), height * width)
        return kept, kept - rows * columns

    return max(grids, key=score)


def tiles_of(image: Array, grid: tuple[int, int], tile_size: int) -> list[Array]:
    """(H, W, 3) uint8 -> rows x columns squares (tile_size, tile_size, 3), row by row, of the resized image."""
    rows, columns = grid
    resized = Image.fromarray(image).resize((columns * tile_size, rows * tile_size), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized).reshape(rows, tile_size, columns, tile_size, 3)
    return list(np.ascontiguousarray(pixels.transpose(0, 2, 1, 3, 4)).reshape(-1, tile_size, tile_size, 3))


class TilesEncoder(Encoder):
    """Images of any size: the tokens of a thumbnail of the whole image, then those of its tiles, row by row.

    An image that fits one tile has only its thumbnail. Tensors have room for the largest grid; missing tiles are masked
    and aren't encoded.

    Args:
        image_encoder: any encoder of images. If it crops (DINOv2's image processor does), the tiles' borders are lost.
        tile_size: side of a tile, pixels: that of ``image_encoder``'s input, so that no detail is lost.
        grids: rows and columns that an image may be cut into; LLaVA-NeXT's by default.

    Raises:
        ValueError: the encoder doesn't serve images, or a size is below one.
    """

    card = PartCard(
        takes="image",
        gives="F (B, N, D): a thumbnail's tokens, then its tiles'",
        widths="the image encoder's",
        weights="the image encoder's",
        checkpoint="none of its own: it wraps an image encoder",
    )

    modalities = (Modality.IMAGE,)
    image_encoder: Encoder

    def __init__(self, image_encoder: Encoder, tile_size: int, grids: Sequence[tuple[int, int]] = LLAVA_NEXT) -> None:
        super().__init__()
        if Modality.IMAGE not in image_encoder.modalities:
            raise ValueError(
                f"image_encoder: {type(image_encoder).__name__} serves {', '.join(image_encoder.modalities)}; "
                "expected an encoder of images"
            )
        if tile_size < 1:
            raise ValueError(f"tile_size: found {tile_size}; expected at least 1")
        if not grids or any(len(grid) != 2 or min(grid) < 1 for grid in grids):
            raise ValueError(f"grids: found {list(grids)}; expected pairs of rows and columns, each at least 1")
        self.image_encoder = image_encoder
        self.dtype = image_encoder.dtype
        self.tile_size = tile_size
        self.grids = [(int(rows), int(columns)) for rows, columns in grids]
        self.room = 1 + max(rows * columns for rows, columns in self.grids)
        self.checkpoint = image_encoder.checkpoint
        self.counts_are_bounds = image_encoder.counts_are_bounds

    def materialize(self) -> None:
        """Loads the image encoder."""
        self.image_encoder.load()

    def release(self) -> None:
        """Drops the image encoder's weights and keeps its settings, where it doesn't stay."""
        if self.stays:
            return
        self.image_encoder.release()
        self.is_loaded = False

    @property
    def passes_vary(self) -> bool:
        """The image encoder's."""
        return self.image_encoder.passes_vary

    def width(self, modality: Modality) -> int:
        """D, the width of the image encoder."""
        return self.image_encoder.width(modality)

    def views(self, image: Array) -> list[Array]:
        """(H, W, 3) uint8 -> the thumbnail and the tiles; a small image is its own thumbnail."""
        height, width = image.shape[:2]
        if max(height, width) <= self.tile_size:
            return [image]
        grid = best_grid(height, width, self.grids, self.tile_size)
        # Resized without keeping the aspect ratio, not cropped, so that the thumbnail shows the whole image.
        small = Image.fromarray(image).resize((self.tile_size, self.tile_size), Image.Resampling.BICUBIC)
        return [np.asarray(small), *tiles_of(image, grid, self.tile_size)]

    def preprocess(self, medium: Media) -> dict[str, Tensor]:
        """An image -> the image encoder's inputs (room, ...), thumbnail first, and the number of views.

        Raises:
            ValueError: the medium isn't an image, or it can't be used; the message names its source.
        """
        if medium.modality is not Modality.IMAGE:
            raise ValueError(f"{medium.modality}: this encoder serves images; give another encoder for it")
        views = [Media(Modality.IMAGE, view, source=medium.source) for view in self.views(medium.array)]
        return stacked_views([self.image_encoder.preprocess(view) for view in views], self.room)

    def token_count(self, modality: Modality, inputs: Mapping[str, Tensor]) -> int:
        """The number of tokens of all views."""
        return sum(self.image_encoder.token_count(modality, view) for view in first_views(inputs))

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Mapping[str, Tensor]) -> Features:
        """Stacked inputs -> tokens (B, N, D), mask (B, N); N is that of the batch's image with the most tiles."""
        if not self.is_loaded:
            self.load(next(iter(inputs.values())).device)
        views = encoded_views(self.image_encoder, inputs)
        return Features(views.tokens.flatten(1, 2), views.mask.flatten(1, 2))
