"""Pixels -> discrete cosine transform, block by block as in JPEG (ITU-T T.81, annexes A.3.3 and K.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
BLOCK = 8
"""Pixels a side of a block."""
# fmt: off
LUMA_STEPS = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
CHROMA_STEPS = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
)
# fmt: on
"""Quantisation steps (annex K.1), row by row: the size from which a coefficient is visible."""


def zigzag() -> Array:
    """(64,) indices of a block's coefficients, from the lowest frequency to the highest (T.81, figure 5)."""
    rows, columns = np.divmod(np.arange(BLOCK * BLOCK), BLOCK)
    diagonal = rows + columns
    along = np.where(diagonal % 2 == 1, rows, columns)  # odd diagonals run downwards, even ones upwards
    order: Array = np.lexsort((along, diagonal))
    return order


def frequencies(image: Array) -> Array:
    """(H, W, 3) uint8, sides multiples of 8 -> (3, H/8, W/8, 64) float32: Y, Cb, Cr coefficients in zigzag order.

    The discrete cosine transform is orthonormal; 128 is taken from each sample first, as JPEG does.
    """
    from scipy.fft import dctn

    height, width = image.shape[:2]
    assert height % BLOCK == 0 and width % BLOCK == 0
    samples = np.asarray(Image.fromarray(image).convert("YCbCr"), dtype=np.float32) - 128
    blocks = samples.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).transpose(4, 0, 2, 1, 3)
    spectrum: Array = dctn(blocks, axes=(-2, -1), norm="ortho").reshape(*blocks.shape[:3], BLOCK * BLOCK)
    return spectrum[..., zigzag()]
