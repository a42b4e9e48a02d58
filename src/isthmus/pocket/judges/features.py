"""The judges' networks as an extractor: features and class logits of digits, of every modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.cache.fingerprint import fingerprint
from isthmus.evaluation.metrics.extractors.base import Extractor, at_least_one
from isthmus.paths import shipped_path
from isthmus.pocket.judges.audio import tone_shares
from isthmus.pocket.judges.digit_reader import FILE, load_reader
from isthmus.pocket.judges.ink import ink_of, normalised
from isthmus.pocket.judges.points import LEANS, faced, front_view
from isthmus.pocket.world import HIGH_TONES, KEYPAD, LOW_TONES
from isthmus.request import Request
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]
FLOOR = 1e-4
"""The share of a tone that is absent, so that its logarithm is finite."""


class DigitFeatures(Extractor):
    """What the digit reader sees in a picture, in the frames of a clip, or in the front view of a cloud.

    Features are its last layer's input, logits those of ten digits and of ink that isn't one, both averaged over frames
    or views. Of a sound, features are the logarithms of its seven tones' shares of the energy, and a digit's logit is
    the sum of its two.

    Args:
        folder: of the reader's weights.
        chunk: media that it reads at once.

    Raises:
        ValueError: the weights are missing, or those of another network; or a chunk below 1.
    """

    modalities: tuple[Modality, ...] = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.POINTS)

    def __init__(self, folder: str | Path = "checkpoints/pocket/judges", chunk: int = 32) -> None:
        self.folder = shipped_path(folder)
        self.reader = load_reader(self.folder)
        self.chunk = at_least_one(chunk)

    def request(self, modality: Modality) -> Request | None:
        return None

    def extract(self, media: Sequence[Media]) -> tuple[Array, Array | None]:
        found = [_heard(medium) if medium.modality is Modality.AUDIO else self._read(medium) for medium in media]
        features, logits = (np.stack(parts) for parts in zip(*found, strict=True))
        return features, logits

    def identity(self) -> Mapping[str, Any]:
        return {
            "extractor": "DigitFeatures",
            "weights": fingerprint(self.folder / FILE),
            "layer": "the last layer's input",
            "preprocessing": "ink, centred and scaled by its moments",
            "chunk": self.chunk,
        }

    @torch.no_grad()
    def _read(self, medium: Media) -> tuple[Array, Array]:
        hidden = self.reader.layers[:-1](normalised(_ink(medium)))
        logits = self.reader.layers[-1](hidden)
        return hidden.mean(0).numpy(), logits.mean(0).numpy()


def _ink(medium: Media) -> Tensor:
    """A picture -> ink (1, H, W), a clip -> (F, H, W), a cloud -> (views, H, W)."""
    content = torch.from_numpy(medium.array).float()
    if medium.modality is Modality.POINTS:
        places = faced(content[:, :3])
        return torch.stack([front_view(places, lean) for lean in LEANS])
    pictures = content / 255
    return ink_of(pictures if medium.modality is Modality.VIDEO else pictures[None])


def _heard(medium: Media) -> tuple[Array, Array]:
    assert medium.rate is not None  # Media ensures it for sound
    shares = np.log(tone_shares(medium.array, medium.rate) + FLOOR).astype(np.float32)
    place = {tone: at for at, tone in enumerate((*LOW_TONES, *HIGH_TONES))}
    return shares, np.array([sum(shares[place[tone]] for tone in KEYPAD[digit]) for digit in range(10)], np.float32)
