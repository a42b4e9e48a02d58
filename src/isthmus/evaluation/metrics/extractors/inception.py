"""The Inception network of the published FID, KID, IS and precision, by torch-fidelity, with the user's weights."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from isthmus.cache.fingerprint import fingerprint
from isthmus.encoders.checkpoint import read_weights
from isthmus.evaluation.metrics.extractors.base import Extractor, as_array, at_least_one, measuring_device
from isthmus.evaluation.metrics.extractors.resizing import Resize
from isthmus.paths import user_path
from isthmus.request import Request
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]
SIDE = 299
LAYERS = ("2048", "logits_unbiased")


class InceptionFeatures(Extractor):
    """The 2,048 features before the last layer, and the logits of 1,008 classes without their biases.

    Args:
        checkpoint: ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity's release 0.2.0.
        resize: ``published``, the network's own: bilinear as in TensorFlow 1, without antialiasing, as in most papers;
            ``clean``: clean-fid's (Parmar et al., arXiv 2104.11222), bicubic and antialiased, then rounded to 8 bits.
        chunk: pictures that it reads at once.

    Raises:
        ValueError: torch-fidelity isn't installed, there is no such file, or an unknown ``resize``.
    """

    modalities: tuple[Modality, ...] = (Modality.IMAGE,)

    def __init__(
        self, checkpoint: str | Path, resize: Literal["published", "clean"] = "published", chunk: int = 32
    ) -> None:
        if find_spec("torch_fidelity") is None:
            raise ValueError(
                "InceptionFeatures: found no torch-fidelity, which has the network; expected it. Fix: pip install "
                "'isthmus[fidelity]' (it brings torchvision), or take an extractor that needs no extra."
            )
        self.checkpoint = user_path(checkpoint)
        if not self.checkpoint.is_file():
            raise ValueError(
                f"{self.checkpoint}: found no such file; expected Inception's weights. Fix: download "
                "weights-inception-2015-12-05-6726825d.pth from the release v0.2.0 of github.com/toshas/torch-fidelity."
            )
        if resize not in ("published", "clean"):
            raise ValueError(f"resize: found {resize!r}; expected published or clean. Fix: name one.")
        self.clean = Resize() if resize == "clean" else None
        self.chunk = at_least_one(chunk)
        self._network: Any = None

    def request(self, modality: Modality) -> Request | None:
        return None

    @torch.no_grad()
    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        network = self._loaded()
        pictures = [self._picture(medium.array) for medium in media]
        if len({picture.shape for picture in pictures}) == 1:
            features, logits = network(torch.stack(pictures).to(measuring_device()))
        else:  # of different sizes, which the network resizes one by one
            each = [network(picture[None].to(measuring_device())) for picture in pictures]
            features, logits = (torch.cat(parts) for parts in zip(*each, strict=True))
        return as_array(features), as_array(logits)

    def identity(self) -> Mapping[str, Any]:
        how = {"resize": f"to {SIDE}, bilinear as in TensorFlow 1", "antialias": False}
        return {
            "extractor": "InceptionV3 of torch-fidelity",
            "weights": fingerprint(self.checkpoint),
            "layer": LAYERS[0],
            **(how if self.clean is None else self.clean.described(SIDE)),
            "torch_fidelity": version("torch-fidelity"),
            "chunk": self.chunk,
        }

    def _picture(self, picture: Array) -> torch.Tensor:
        if self.clean is not None:
            picture = self.clean(picture, SIDE).round().astype(np.uint8)
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))

    def _loaded(self) -> Any:
        if self._network is None:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

            # The library would unpickle the file, and with it run whatever code it names: it gets a copy that was read
            # safely.
            copy = io.BytesIO()
            torch.save(read_weights(self.checkpoint), copy)
            copy.seek(0)
            made = FeatureExtractorInceptionV3("inception-v3-compat", list(LAYERS), copy)
            self._network = made.to(measuring_device())
        return self._network
