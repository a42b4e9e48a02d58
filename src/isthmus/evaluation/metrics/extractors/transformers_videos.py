"""Videos by a network of whole clips in a transformers folder: VideoMAE, ViViT, TimeSformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus.evaluation.metrics.extractors.base import Extractor, at_least_one
from isthmus.evaluation.metrics.extractors.published import PublishedNetwork
from isthmus.evaluation.metrics.extractors.resizing import Resize
from isthmus.evaluation.metrics.extractors.transformers_images import Pixels
from isthmus.request import Request
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]


class TransformersVideos(Extractor):
    """Features, and logits of an ``...ForVideoClassification``, of clips.

    FVD (arXiv 1812.01717) with VideoMAE in the place of I3D, which looks more at motion (Ge et al., arXiv 2404.12391),
    is ``Frechet`` on this.

    Args:
        checkpoint: the folder: configuration, image processor and weights.
        frames: how many a clip has; the configuration's ``num_frames`` if None.
        rate: frames a second that are looked at, from the first on; None spreads them evenly over the whole video. What
            is shown last stands for frames after the end.
        side: of the network's input, pixels; the image processor's if None.
        resize: how frames come to it.
        chunk: clips that it reads at once.

    Raises:
        ValueError: the folder can't be read, or says no number of frames.
    """

    modalities: tuple[Modality, ...] = (Modality.VIDEO,)

    def __init__(
        self,
        checkpoint: str | Path,
        frames: int | None = None,
        rate: float | None = None,
        side: int | None = None,
        resize: Resize | None = None,
        chunk: int = 8,
    ) -> None:
        self.network = PublishedNetwork(checkpoint, projected=False, unit_length=False)
        found = getattr(self.network.config, "num_frames", None) if frames is None else frames
        if not isinstance(found, int) or found < 1:
            raise ValueError(
                f"{self.network.folder}: frames: found {found}; expected a number above 0, which config.json of a "
                "network of videos has. Fix: give `frames`, or another folder."
            )
        if rate is not None and not rate > 0:
            raise ValueError(f"rate: found {rate}; expected frames a second above 0. Fix: raise it.")
        self.frames = found
        self.rate = rate
        self.pixels = Pixels(self.network.folder, side, resize or Resize(shape="crop"))
        self.chunk = at_least_one(chunk)

    def request(self, modality: Modality) -> Request | None:
        return Request(frames=partial(places, self.frames, self.rate))

    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        clips = []
        for medium in media:
            assert medium.rate is not None  # Media ensures it for videos
            rows = medium.rows(places(self.frames, self.rate, medium.frame_count, medium.rate))
            clips.append(torch.stack([self.pixels(medium.array[row]) for row in rows]))
        return self.network({"pixel_values": torch.stack(clips)})

    def identity(self) -> Mapping[str, Any]:
        own = {"frames": self.frames, "rate": "spread evenly" if self.rate is None else self.rate}
        return {**self.network.identity(), **self.pixels.described(), **own, "chunk": self.chunk}


def places(frames: int, wanted: float | None, total: int, rate: float) -> list[int]:
    """Numbers of the frames that are looked at, of ``total`` at ``rate``; repeated where there are too few."""
    if wanted is None:
        return [int(place) for place in np.linspace(0, total - 1, frames).round()]
    return [min(int(number * rate / wanted + 1e-6), total - 1) for number in range(frames)]
