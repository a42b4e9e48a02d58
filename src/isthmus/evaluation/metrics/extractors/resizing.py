"""How pictures come to the square that a network takes: ours, and a part of every figure's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

Array = np.ndarray[Any, Any]
Interpolation = Literal["bicubic", "bilinear"]
Shape = Literal["stretch", "crop"]
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Resize:
    """A picture -> a square.

    Published figures differ by this: clean-fid's and FD-DINOv2's resize is bicubic, antialiased and stretches; the
    original FID's is bilinear without antialiasing.

    Attributes:
        interpolation: between pixels.
        antialias: whether a pixel of a smaller picture is the mean of all that it covers (Pillow), or of its nearest
            pixels alone (torch), which makes moiré.
        shape: ``stretch`` both sides, or scale the shorter side and ``crop`` the middle.

    Raises:
        ValueError: an unknown choice.
    """

    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    shape: Shape = "stretch"

    def __post_init__(self) -> None:
        for name, kinds in (("interpolation", Interpolation), ("shape", Shape)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"resize.{name}: found {getattr(self, name)!r}; expected {' or '.join(get_args(kinds))}. Fix: name "
                    "one."
                )

    def __call__(self, picture: Array, side: int) -> Array:
        """(H, W, 3) uint8 -> (side, side, 3) float32 in [0, 255], not rounded."""
        if self.shape == "crop":
            short = min(picture.shape[:2])
            top, left = ((length - short) // 2 for length in picture.shape[:2])
            picture = picture[top : top + short, left : left + short]
        if picture.shape[:2] == (side, side):
            return picture.astype(np.float32)
        channels = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)
        if self.antialias:
            made = [Image.fromarray(one).resize((side, side), FILTERS[self.interpolation]) for one in channels]
            found = np.stack([np.asarray(one) for one in made], axis=-1)
        else:
            whole = torch.from_numpy(channels)[None]
            small = torch.nn.functional.interpolate(whole, (side, side), mode=self.interpolation, align_corners=False)
            found = small[0].permute(1, 2, 0).numpy()
        clipped: Array = found.clip(0, 255).astype(np.float32)
        return clipped

    def described(self, side: int) -> dict[str, object]:
        """As figures carry it."""
        return {"resize": f"{self.shape} to {side}, {self.interpolation}", "antialias": self.antialias}
