"""The judge of spoken digits: a small convolutional network on log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.data.media.audio.files import resample
from isthmus.generators.audio.log_mel import log_mel
from isthmus.paths import shipped_path
from isthmus.pocket.judges.base import MediaJudge, Reading
from isthmus.pocket.judges.digit_reader import CLASSES, ILLEGIBLE, load_weights
from isthmus.pocket.judges.image import digit_of
from isthmus.pocket.world import SAMPLE_RATE, SAMPLES
from isthmus.types import Media, Modality

BINS, FRAMES, HOP = 64, 64, 160
DEPTH = 5.0
"""Levels more than this below the loudest band and frame, in nepers (43 dB), count as silence."""
FILE = "speech.safetensors"


def spectra(sounds: Tensor) -> Tensor:
    """(B, SAMPLES) at 16 kHz -> (B, 1, FRAMES, BINS) log-mels in [0, 1], scaled so that each sound's largest is 1."""
    mels = log_mel(sounds, SAMPLE_RATE, BINS, hop=HOP)[:, :FRAMES]
    loudest = mels.amax((1, 2), keepdim=True)
    return ((mels - loudest) / DEPTH + 1).clamp(0, 1)[:, None]


class SpeechReader(nn.Module):
    """Spectra (B, 1, FRAMES, BINS) -> logits (B, CLASSES): ten digits, and sounds that aren't digits."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )

        self.layers = nn.Sequential(
            block(1, width, 2), block(width, 2 * width, 1), block(2 * width, 4 * width, 1), nn.Flatten(),
            nn.Dropout(0.4), nn.Linear(4 * width * (FRAMES // 16) * (BINS // 16), CLASSES),
        )  # fmt: skip

    def forward(self, log_mels: Tensor) -> Tensor:
        logits: Tensor = self.layers(log_mels)
        return logits


class SpeechJudge(MediaJudge):
    """Reads the digit spoken in the first 0.64 s, at any sample rate; None if no digit is likely.

    Args:
        folder: of the network's weights.

    Raises:
        ValueError: they are missing, or those of another network.
    """

    modality = Modality.AUDIO
    attributes = ("digit",)

    def __init__(self, folder: str | Path) -> None:
        self.reader = load_weights(SpeechReader(), shipped_path(folder) / FILE)

    @torch.no_grad()
    def many(self, media: Sequence[Media]) -> list[Reading]:
        """Reads all sounds together."""
        self.check(media)
        sounds = [torch.from_numpy(resample(medium, float(SAMPLE_RATE)).array[:SAMPLES]) for medium in media]
        padded = torch.stack([functional.pad(sound, (0, SAMPLES - len(sound))) for sound in sounds])
        audible = padded.abs().amax(1) > 1e-3
        probabilities = torch.cat([self.reader(part).softmax(-1) for part in spectra(padded).split(100)])
        probabilities[~audible] = functional.one_hot(torch.tensor(ILLEGIBLE), CLASSES).float()
        return [{"digit": digit_of(own)} for own in probabilities]
