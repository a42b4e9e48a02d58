"""Images by a network in a transformers folder: CLIP, DINOv2, ViT and other classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from isthmus.evaluation.metrics.extractors.base import Extractor, at_least_one
from isthmus.evaluation.metrics.extractors.published import PublishedNetwork
from isthmus.evaluation.metrics.extractors.resizing import Resize
from isthmus.published import read_published
from isthmus.request import Request
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]


class TransformersImages(Extractor):
    """Features, and logits of an ``...ForImageClassification``, of pictures that are resized here.

    FD-DINOv2 (Stein et al., arXiv 2306.04675) is ``Frechet`` on ``facebook/dinov2-large`` with the defaults.
    CMMD (arXiv 2401.09603) is ``GaussianKernel`` on ``openai/clip-vit-large-patch14-336`` with ``layer: projected``,
    ``unit_length: true`` and ``resize: {antialias: false}``.

    Args:
        checkpoint: the folder: configuration, image processor (for the colours' mean and deviation, and the side) and
            weights.
        layer: ``pooled``, what the classifier is given or else the pooled output; ``projected``, CLIP's embedding.
        unit_length: whether features are divided by their length.
        side: of the network's input, pixels; the image processor's if None.
        resize: how pictures come to it.
        chunk: pictures that it reads at once.

    Raises:
        ValueError: the folder can't be read, or has no such layer.
    """

    modalities: tuple[Modality, ...] = (Modality.IMAGE,)

    def __init__(
        self,
        checkpoint: str | Path,
        layer: Literal["pooled", "projected"] = "pooled",
        unit_length: bool = False,
        side: int | None = None,
        resize: Resize | None = None,
        chunk: int = 32,
    ) -> None:
        self.network = PublishedNetwork(checkpoint, layer == "projected", unit_length)
        self.pixels = Pixels(self.network.folder, side, resize or Resize())
        self.chunk = at_least_one(chunk)

    def request(self, modality: Modality) -> Request | None:
        return None

    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        return self.network({"pixel_values": torch.stack([self.pixels(medium.array) for medium in media])})

    def identity(self) -> Mapping[str, Any]:
        return {**self.network.identity(), **self.pixels.described(), "chunk": self.chunk}


class Pixels:
    """Pictures -> what a network takes: resized here, then normalised as the folder's image processor says.

    Args:
        folder: of the network.
        side: of the square; the processor's if None.
        resize: how pictures come to it.

    Raises:
        ValueError: there is no image processor, or no side in it.
    """

    def __init__(self, folder: Path, side: int | None, resize: Resize) -> None:
        from transformers import AutoImageProcessor

        try:
            # torchvision's processors differ, and figures must not depend on whether it is installed.
            processor: Any = read_published(AutoImageProcessor, folder, backend="pil")
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{folder}: found no preprocessor_config.json that transformers can read ({error}); expected an image "
                "processor's. Fix: download that file too."
            ) from error
        self.side = _side(processor, folder) if side is None else side
        self.resize = resize
        mean, deviation = (torch.tensor(processor.image_mean), torch.tensor(processor.image_std))
        self.mean, self.deviation = mean.view(3, 1, 1), deviation.view(3, 1, 1)
        if not getattr(processor, "do_normalize", True):
            self.mean, self.deviation = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def __call__(self, picture: Array) -> Tensor:
        """(H, W, 3) uint8 -> (3, side, side) float32."""
        square = torch.from_numpy(self.resize(picture, self.side)).permute(2, 0, 1) / 255
        return (square - self.mean) / self.deviation

    def described(self) -> dict[str, object]:
        """As figures carry it."""
        return self.resize.described(self.side)


def _side(processor: Any, folder: Path) -> int:
    for found in (getattr(processor, "crop_size", None), getattr(processor, "size", None)):
        sizes = {} if found is None else dict(found)
        for name in ("height", "shortest_edge"):
            if sizes.get(name) is not None:
                return int(sizes[name])
    raise ValueError(
        f"{folder}: preprocessor_config.json: found neither crop_size nor size; expected one. Fix: give `side`."
    )
