"""Trains the judge of spoken digits on recordings of the training split, augmented in time, pitch and loudness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.judges.digit_reader import ILLEGIBLE, save_weights
from isthmus.pocket.judges.speech import FILE, SpeechReader, spectra
from isthmus.pocket.manifest_world import ManifestWorld
from isthmus.types import Modality

BATCH = 64
NONE = 8
"""The number of samples in a batch that aren't digits: recordings with shuffled quarters."""


def augmented(log_mels: Tensor) -> Tensor:
    """Augments spectra (B, 1, T, F): chunks and shifts them in time and pitch, and adds noise."""
    count = len(log_mels)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0] = torch.exp(0.05 * torch.randn(count))
    maps[:, 0, 2] = 0.04 * torch.randn(count)
    maps[:, 1, 1] = torch.exp(0.15 * torch.randn(count))
    maps[:, 1, 2] = maps[:, 1, 1] - 1 + 0.12 * torch.randn(count)
    grid = functional.affine_grid(maps, list(log_mels.shape), align_corners=False)
    moved = functional.grid_sample(log_mels, grid, align_corners=False)
    floor = 0.35 * torch.rand(count, 1, 1, 1) * torch.rand(count, 1, 1, log_mels.shape[3])
    return torch.maximum(moved, floor + 0.05 * torch.randn_like(log_mels)).clamp(0, 1)


def shuffled(log_mels: Tensor) -> Tensor:
    """Spectra (B, 1, T, F) with the four quarters of their first half in reverse order."""
    eighth = log_mels.shape[2] // 8
    pieces = [log_mels[:, :, i * eighth : (i + 1) * eighth] for i in (3, 2, 1, 0)]
    return torch.cat([*pieces, log_mels[:, :, 4 * eighth :]], dim=2)


def train_speech(out: Path, world: ManifestWorld, effort: float = 1.0, seed: int = 0) -> None:
    """Trains the network and writes its weights to ``out``.

    Raises:
        ValueError: the world has no recordings, or they can't be read.
    """
    torch.manual_seed(seed)
    pool = world.pool(Modality.AUDIO, "train")
    log_mels, digits = spectra(torch.from_numpy(pool.arrays())), torch.from_numpy(pool.digits.astype(np.int64))
    reader = SpeechReader()

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(log_mels), (BATCH,))
        labels = digits[chosen].clone()
        labels[:NONE] = ILLEGIBLE
        inputs = torch.cat([shuffled(log_mels[chosen[:NONE]]), log_mels[chosen[NONE:]]])
        return functional.cross_entropy(reader(augmented(inputs)), labels, label_smoothing=0.05)

    averaged = fit("speech judge", reader, loss, max(int(800 * effort), 2), 3e-3, average=0.99, seed=seed)
    save_weights(averaged, out / FILE)
