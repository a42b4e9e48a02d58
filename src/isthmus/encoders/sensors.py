"""Depth, thermal pictures and IMU recordings, as ImageBind sees them.

ImageBind published no preprocessing of these. Depth follows what its authors published for the same data in Omnivore
(arXiv 2201.08377): a depth becomes a disparity, baseline x focal length / depth, as in SUN RGB-D; disparities are cut
off at 75, divided by it, resized, cropped and normalised. Thermal pictures are resized and cropped as its images are,
one channel from 0 to 1, without CLIP's mean and deviation, which nothing says were taken off. An IMU recording is five
seconds at 2,000 steps (arXiv 2305.05665, appendix B), in the units that it comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.encoders.image_transform import middle, square

Array = np.ndarray[Any, Any]
Unit = Literal["metres", "disparity"]


@dataclass(frozen=True)
class DepthSettings:
    """How depths become what ImageBind's tower was trained on.

    Attributes:
        unit: what depth maps hold: metres, or disparities in pixels.
        baseline: metres between the two eyes of the sensor; Kinect v1 and v2: 0.075, RealSense and Xtion: 0.095.
        focal: the camera's focal length in pixels.
        nearest, farthest: metres to which depths are cut off.
        largest: the disparity that becomes 1; what is above it is cut off.
        mean, std: of disparities so divided.

    Raises:
        ValueError: another unit, or a number that isn't above 0.
    """

    unit: Unit = "metres"
    baseline: float = 0.075
    focal: float = 518.86
    nearest: float = 0.01
    farthest: float = 50.0
    largest: float = 75.0
    mean: float = 0.0418
    std: float = 0.0295

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ValueError(f"depth.unit: found {self.unit!r}; expected {' or '.join(get_args(Unit))}. Fix: name one.")
        for name in ("baseline", "focal", "nearest", "farthest", "largest", "std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"depth.{name}: found {getattr(self, name)}; expected above 0. Fix: raise it.")


def depth_view(depth: Array, settings: DepthSettings, size: int) -> Tensor:
    """(H, W) -> (1, size, size) float32: normalised disparities, the shorter side resized bilinearly, the middle."""
    depth = middle(depth[..., None])[..., 0]
    if settings.unit == "metres":
        depth = settings.baseline * settings.focal / depth.clip(settings.nearest, settings.farthest)
    shares = torch.from_numpy(np.ascontiguousarray(depth, np.float32)).clamp(max=settings.largest) / settings.largest
    height, width = shares.shape
    shape = [size * side // min(height, width) for side in (height, width)]
    resized = F.interpolate(shares[None, None], size=shape, mode="bilinear", align_corners=False, antialias=True)[0]
    top, left = (round((side - size) / 2) for side in shape)
    return (resized[:, top : top + size, left : left + size] - settings.mean) / settings.std


def thermal_view(grey: Array, size: int) -> Tensor:
    """(H, W) from 0 to 1 -> (1, size, size) float32, resized as an image of 8 bits is."""
    shades = (255 * grey).round().astype(np.uint8)
    cropped = square(np.repeat(shades[..., None], 3, axis=2), size)[..., 0]
    return torch.from_numpy(cropped.astype(np.float32) / np.float32(255))[None]


def motion_view(motion: Array, rate: float, seconds: float, channels: int, length: int) -> Tensor:
    """(channels, samples) -> (channels, length) float32: the middle ``seconds``, interpolated; zeros behind the end.

    Raises:
        ValueError: another number of channels than the tower has.
    """
    if len(motion) != channels:
        raise ValueError(
            f"found {len(motion)} channels; expected {channels}. Fix: give an encoder with as many, or "
            "choose the channels."
        )
    begin = max(motion.shape[1] / rate - seconds, 0.0) / 2
    places = (begin + np.arange(length) * (seconds / length)) * rate
    known = np.arange(motion.shape[1])
    rows = [np.interp(places, known, channel, right=0.0) for channel in motion]
    return torch.from_numpy(np.stack(rows).astype(np.float32))
