"""The judge of videos: reads the digit from all frames, the colour by hue, and the motion by the drift of the ink."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from isthmus.paths import shipped_path
from isthmus.pocket.judges.base import MediaJudge, Reading
from isthmus.pocket.judges.digit_reader import load_reader
from isthmus.pocket.judges.image import colour_of, digit_of
from isthmus.pocket.judges.ink import ink_of, moments
from isthmus.pocket.world import MOTIONS
from isthmus.types import Media, Modality

DRIFT = 0.1
"""The least distance over the clip that counts as motion, as a share of the width (the world's is above 0.26)."""
DOMINANCE = 1.5
"""The least ratio of the distances along the two axes."""


def motion_of(ink: Tensor) -> str | None:
    """The direction of a clip's ink (F, H, W), by the least-squares slope of its centre; None if still or diagonal."""
    frames, height, width = ink.shape
    has_ink = ink.flatten(1).any(1)
    if int(has_ink.sum()) < 2:
        return None
    times = torch.arange(frames, dtype=ink.dtype)[has_ink]
    centres = moments(ink[has_ink])[0] / torch.tensor([width, height])
    late = times - times.mean()
    way = (late @ centres) / (late @ late) * (frames - 1)
    along = max(MOTIONS, key=lambda name: float(way @ torch.tensor(MOTIONS[name], dtype=way.dtype)))
    sizes = way.abs().sort().values
    return along if float(sizes[1]) >= DRIFT and float(sizes[1]) >= DOMINANCE * float(sizes[0]) else None


class VideoJudge(MediaJudge):
    """Reads digit, colour and motion of clips of any size and length.

    Args:
        folder: of the digit reader's weights.
        last_frame: whether the digit is read only in the last frame, for videos of writing.

    Raises:
        ValueError: they are missing, or those of another network.
    """

    modality = Modality.VIDEO
    attributes = ("digit", "colour", "motion")

    def __init__(self, folder: str | Path, last_frame: bool = False) -> None:
        self.reader = load_reader(shipped_path(folder))
        self.last_frame = last_frame

    def many(self, media: Sequence[Media]) -> list[Reading]:
        """Reads one clip at a time, with its frames together; frames without ink are ignored."""
        self.check(media)
        return [self._read(torch.from_numpy(medium.array).float() / 255) for medium in media]

    def _read(self, frames: Tensor) -> Reading:
        ink = ink_of(frames)
        readable = ink[-1:] if self.last_frame else ink
        with_ink = readable[readable.flatten(1).any(1)]
        # The mean of log-probabilities: a confident frame outweighs several uncertain ones.
        digit = digit_of(self.reader.probabilities(with_ink).log().mean(0).softmax(-1)) if len(with_ink) else None
        return {"digit": digit, "colour": colour_of(frames, ink), "motion": motion_of(ink)}
