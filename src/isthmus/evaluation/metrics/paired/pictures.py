"""PSNR and SSIM of made pictures and films against their own references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.distances.media import Pair, pairs_of
from isthmus.evaluation.metrics.scores import owners_figure
from isthmus.evaluation.predictions.answered import Answered
from isthmus.request import Request
from isthmus.types import Media, Modality

CHUNK = 16
MOST = 100.0
"""dB: the PSNR of equal pictures, which is infinite, and of any that are nearer than that."""
SMALLEST = 6
"""Pixels a side that SSIM's window needs, mirrored at the edges."""
SERVED = (Modality.IMAGE, Modality.VIDEO)
RESIZED = {"resize": "the reference to the made size, bicubic", "antialias": True}


class PictureLikeness(Metric):
    """``image/psnr`` and ``image/ssim``, or of films the means over frames, of media that have a reference.

    A reference of another size is resized to the made one's; of another number of frames, its frames are taken evenly.
    By torchmetrics, on colours in [0, 1], with SSIM's Gaussian window of 11 x 11. Source of SSIM: Z. Wang et al., IEEE
    Transactions on Image Processing 13 (2004).

    Args:
        modality: image or video.
    """

    def __init__(self, modality: str = "image") -> None:
        self.modality = picture_kind(modality)

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figures, with each answer's scores; none where no answer has both a medium and a reference.

        Raises:
            DataError: a file is absent or damaged.
            ValueError: a picture is too small.
        """
        pairs = pairs_of(answers, self.modality)
        if not pairs:
            return {}
        scores = processes.map(_likeness, pairs, CHUNK, f"{self.modality}: likeness")
        owners = [pair.owner for pair in pairs]
        protocol = {**RESIZED, "library": f"torchmetrics {version('torchmetrics')}"}
        return {
            f"{self.modality}/{name}": owners_figure(owners, [one[place] for one in scores], protocol)
            for place, name in enumerate(("psnr", "ssim"))
        }


def picture_kind(modality: str) -> Modality:
    """The modality, if it is one of pictures.

    Raises:
        ValueError: it isn't.
    """
    if modality not in SERVED:
        raise ValueError(f"modality: found {modality!r}; expected {' or '.join(SERVED)}. Fix: name one of them.")
    return Modality(modality)


def _likeness(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    found = []
    for pair in pairs:
        made, expected = both(pair)
        if min(made.shape[2:]) < SMALLEST:
            raise ValueError(
                f"{pair.owner}: found a picture of {made.shape[2]} x {made.shape[3]}; expected at least {SMALLEST} "
                "pixels a side, as SSIM needs. Fix: leave PictureLikeness out of this source."
            )
        noise = peak_signal_noise_ratio(made, expected, data_range=1.0, reduction="none", dim=(1, 2, 3))
        like = structural_similarity_index_measure(made, expected, data_range=1.0, reduction="none")
        assert isinstance(like, Tensor)
        found.append((float(noise.clamp(max=MOST).mean()), float(like.mean())))
    return found


def both(pair: Pair) -> tuple[Tensor, Tensor]:
    """The made medium and its reference, each (F, 3, H, W) in [0, 1], of the made one's size and number of frames.

    Raises:
        DataError: a file is absent or damaged.
    """
    made = _frames(pair.made.read())

    def wanted(total: int, rate: float) -> list[int]:
        return [round(row) for row in np.linspace(0, total - 1, len(made)).tolist()]

    # Only what is compared is decoded: a reference may be a long film.
    whole = pair.expected.read(Request(wanted))
    expected = _frames(whole)
    if whole.modality == Modality.VIDEO:
        expected = expected[whole.rows(wanted(whole.frame_count, 0.0))]
    height, width = made.shape[1:3]
    chosen = list(expected)
    if expected.shape[1:3] != (height, width):
        size = (width, height)
        chosen = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in chosen]
    return _colours(made), _colours(np.stack(chosen))


def _frames(medium: Media) -> np.ndarray[Any, Any]:
    return medium.array if medium.modality == Modality.VIDEO else medium.array[None]


def _colours(frames: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
