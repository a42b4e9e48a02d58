"""uint8 images <-> the tensors of a VAE."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.request import Request
from isthmus.types import Media


def pixels_of(image: np.ndarray[Any, Any], height: int, width: int) -> Tensor:
    """(H, W, 3) uint8 -> (3, height, width) float32 in [-1, 1]: cropped to the aspect ratio and resized (bicubic)."""
    from PIL import Image, ImageOps

    if image.shape[:2] != (height, width):
        fitted = ImageOps.fit(Image.fromarray(image), (width, height), method=Image.Resampling.BICUBIC)
        image = np.asarray(fitted)
    return torch.tensor(image).permute(2, 0, 1).to(torch.float32).div_(127.5).sub_(1.0)


def clip_frames(frames: int, total: int, rate: float) -> list[int]:
    """Indices of ``frames`` evenly spaced frames of ``total``, repeated if there are too few."""
    return [int(frame) for frame in np.linspace(0, total - 1, frames).round()]


def clip_request(frames: int, height: int, width: int) -> Request:
    """The frames and the resolution that :func:`clip_of` uses."""
    return Request(partial(clip_frames, frames), min(height, width))


def clip_of(video: Media, frames: int, height: int, width: int) -> Tensor:
    """A video, or its frames chosen by :func:`clip_request` -> (frames, 3, height, width) in [-1, 1]."""
    assert video.rate is not None  # Media ensures it for videos
    chosen = video.rows(clip_frames(frames, video.frame_count, video.rate))
    return torch.stack([pixels_of(video.array[row], height, width) for row in chosen])


def pictures_of(images: Tensor) -> np.ndarray[Any, Any]:
    """(..., 3, H, W) in [0, 1] -> (..., H, W, 3) uint8, rounded as diffusers' own PIL output is."""
    # Rounded on the device, so that a quarter of the bytes are copied to the CPU.
    return images.float().mul(255.0).round().to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()
