"""A video -> ImageBind's views: evenly spread clips of a few frames each, cropped along the longer side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.encoders.image_transform import middle, normalised
from isthmus.encoders.imagebind.clips import clip_times
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.types import Media

Array = np.ndarray[Any, Any]


def clip_frames(total: int, rate: float, config: ImageBindConfig) -> Array:
    """(clips, frames) int64: the indices of each clip's frames, evenly from its first to its last."""
    rows = []
    for begin, end in clip_times(total / rate, config.video_clip_seconds, config.video_clips):
        first = min(math.ceil(rate * begin), total - 1)
        last = max(min(math.ceil(rate * end), total) - 1, first)
        rows.append(np.linspace(first, last, config.video_frames).astype(np.int64))
    return np.stack(rows)


def shorter_side_to(frames: Tensor, size: int) -> Tensor:
    """(F, 3, H, W) -> bilinearly resized so that the shorter side is ``size`` pixels; the longer is rounded down."""
    height, width = frames.shape[-2:]
    if min(height, width) == size:
        return frames
    shorter = min(height, width)
    shape = (math.floor(height / shorter * size), math.floor(width / shorter * size))
    return F.interpolate(frames, size=shape, mode="bilinear", align_corners=False)


def square_crops(frames: Tensor, size: int, crops: int) -> list[Tensor]:
    """(F, 3, H, W) -> squares (F, 3, size, size): the centre, or with three crops also both ends of the longer side."""
    height, width = frames.shape[-2:]
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    corners = [(top, left)]
    if crops == 3 and height > width:
        corners = [(0, left), (top, left), (height - size, left)]
    elif crops == 3:
        corners = [(top, 0), (top, left), (top, width - size)]
    return [frames[..., y : y + size, x : x + size] for y, x in corners]


def seen_frames(config: ImageBindConfig, total: int, rate: float) -> list[int]:
    """The indices of all clips' frames, for a :class:`~isthmus.request.Request`."""
    return clip_frames(total, rate, config).ravel().tolist()


def video_views(video: Media, config: ImageBindConfig) -> Tensor:
    """A video, or its :func:`seen_frames` -> (clips x crops, 3, frames, size, size) float32, clip by clip.

    The frames of a video that is shorter than a clip are repeated.
    """
    assert video.rate is not None  # Media ensures it for videos
    chosen = video.rows(clip_frames(video.frame_count, video.rate, config))
    # Each frame is resized once, however many clips share it.
    unique, positions = np.unique(chosen, return_inverse=True)
    pixels = torch.from_numpy(middle(video.array)[unique]).permute(0, 3, 1, 2).float() / 255
    pixels = normalised(shorter_side_to(pixels, config.image_size))
    crops = torch.stack(square_crops(pixels, config.image_size, config.video_crops))
    views = crops[:, torch.from_numpy(positions.reshape(chosen.shape))]  # (crops, clips, frames, 3, size, size)
    return views.permute(1, 0, 3, 2, 4, 5).flatten(0, 1).contiguous()
