"""The judge of videos: the digit over all frames, the colour by hue, the motion by the drift of the ink."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from isthmus.paths import user_path
from isthmus.pocket.judges.base import MediaJudge, Reading
from isthmus.pocket.judges.digit_reader import load_reader
from isthmus.pocket.judges.image import colour_of, digit_of
from isthmus.pocket.judges.ink import ink_of, moments
from isthmus.pocket.world import MOTIONS
from isthmus.types import Media, Modality

DRIFT = 0.1
"""The least way over the clip that counts as motion, in widths of the picture (the world's own is above 0.26)."""
DOMINANCE = 1.5
"""How much farther it must go along one axis than along the other."""


def motion_of(ink: Tensor) -> str | None:
    """Where a clip's ink (F, H, W) goes, by the least-squares slope of its centre; None if it stays or goes askew."""
    frames, height, width = ink.shape
    seen = ink.flatten(1).any(1)
    if int(seen.sum()) < 2:
        return None
    times = torch.arange(frames, dtype=ink.dtype)[seen]
    centres = moments(ink[seen])[0] / torch.tensor([width, height])
    late = times - times.mean()
    way = (late @ centres) / (late @ late) * (frames - 1)
    along = max(MOTIONS, key=lambda name: float(way @ torch.tensor(MOTIONS[name], dtype=way.dtype)))
    sizes = way.abs().sort().values
    return along if float(sizes[1]) >= DRIFT and float(sizes[1]) >= DOMINANCE * float(sizes[0]) else None


class VideoJudge(MediaJudge):
    """Reads digit, colour and motion of clips of any size and length.

    Args:
        folder: where the digit reader's weights lie.
        last_frame: whether the digit is read in the last frame alone, as where it is being written.

    Raises:
        ValueError: they are missing or another network's.
    """

    modality = Modality.VIDEO
    attributes = ("digit", "colour", "motion")

    def __init__(self, folder: str | Path, last_frame: bool = False) -> None:
        self.reader = load_reader(user_path(folder))
        self.last_frame = last_frame

    def many(self, media: Sequence[Media]) -> list[Reading]:
        """Clip by clip, the frames of one together; a frame without ink says nothing of the digit."""
        self.check(media)
        return [self._read(torch.from_numpy(medium.array).float() / 255) for medium in media]

    def _read(self, frames: Tensor) -> Reading:
        ink = ink_of(frames)
        readable = ink[-1:] if self.last_frame else ink
        seen = readable[readable.flatten(1).any(1)]
        # The mean of the log-probabilities: one frame that is sure outweighs several that waver.
        digit = digit_of(self.reader.probabilities(seen).log().mean(0).softmax(-1)) if len(seen) else None
        return {"digit": digit, "colour": colour_of(frames, ink), "motion": motion_of(ink)}
