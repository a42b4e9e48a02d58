"""An image -> the normalised square that CLIP-like vision towers take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Array = np.ndarray[Any, Any]

LONGEST = 64
"""The largest ratio of sides at which an image is resized whole before its centre is cropped."""


def middle(pixels: Array) -> Array:
    """(..., H, W, 3) -> its centre, at most :data:`LONGEST` times as long as wide.

    For callers that resize the shorter side and then crop the centre: resizing an image of 2,000,000 x 1 pixels would
    take gigabytes. Images below that ratio are unchanged.
    """
    height, width = pixels.shape[-3:-1]
    longest = LONGEST * min(height, width)
    top, left = (max(side - longest, 0) // 2 for side in (height, width))
    return pixels[..., top : height - top, left : width - left, :]


def normalised(pixels: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] -> CLIP's mean removed and divided by its deviation, channel by channel."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std


def square(image: Array, size: int) -> Array:
    """(H, W, 3) uint8 -> (size, size, 3) uint8: shorter side resized bicubically, centre cropped."""
    image = middle(image)
    height, width = image.shape[:2]
    if (height, width) != (size, size):
        shorter = min(height, width)
        new_height, new_width = (size * side // shorter for side in (height, width))
        resized = Image.fromarray(np.ascontiguousarray(image)).resize((new_width, new_height), Image.Resampling.BICUBIC)
        top, left = round((new_height - size) / 2), round((new_width - size) / 2)
        image = np.asarray(resized)[top : top + size, left : left + size]
    return image


def image_view(image: Array, size: int) -> Tensor:
    """(H, W, 3) uint8 -> (3, size, size) float32: :func:`square`, normalised."""
    channels_first = np.ascontiguousarray(square(image, size).transpose(2, 0, 1), dtype=np.float32)
    return normalised(torch.from_numpy(channels_first / np.float32(255)))
