"""Trains the judge of spoken digits on real recordings of the training split, bent in time, pitch and loudness."""

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
"""Of a batch, how many are no digit: recordings cut in four and put together wrongly."""


def bent(seen: Tensor) -> Tensor:
    """Spectra (B, 1, T, F), each faster or slower, later or earlier, higher or lower, and with noise."""
    count = len(seen)
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0] = torch.exp(0.05 * torch.randn(count))
    maps[:, 0, 2] = 0.04 * torch.randn(count)
    maps[:, 1, 1] = torch.exp(0.15 * torch.randn(count))
    maps[:, 1, 2] = maps[:, 1, 1] - 1 + 0.12 * torch.randn(count)
    grid = functional.affine_grid(maps, list(seen.shape), align_corners=False)
    moved = functional.grid_sample(seen, grid, align_corners=False)
    floor = 0.35 * torch.rand(count, 1, 1, 1) * torch.rand(count, 1, 1, seen.shape[3])
    return torch.maximum(moved, floor + 0.05 * torch.randn_like(seen)).clamp(0, 1)


def shuffled(seen: Tensor) -> Tensor:
    """Spectra (B, 1, T, F) whose first half is cut into four pieces, put together backwards."""
    eighth = seen.shape[2] // 8
    pieces = [seen[:, :, i * eighth : (i + 1) * eighth] for i in (3, 2, 1, 0)]
    return torch.cat([*pieces, seen[:, :, 4 * eighth :]], dim=2)


def train_speech(out: Path, world: ManifestWorld, effort: float = 1.0, seed: int = 0) -> None:
    """Trains the network and writes its weights to ``out``.

    Raises:
        ValueError: the world has no recordings, or they can't be read.
    """
    torch.manual_seed(seed)
    pool = world.pool(Modality.AUDIO, "train")
    seen, digits = spectra(torch.from_numpy(pool.arrays())), torch.from_numpy(pool.digits.astype(np.int64))
    reader = SpeechReader()

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(seen), (BATCH,))
        labels = digits[chosen].clone()
        labels[:NONE] = ILLEGIBLE
        heard = torch.cat([shuffled(seen[chosen[:NONE]]), seen[chosen[NONE:]]])
        return functional.cross_entropy(reader(bent(heard)), labels, label_smoothing=0.05)

    averaged = fit("speech judge", reader, loss, max(int(800 * effort), 2), 3e-3, average=0.99, seed=seed)
    save_weights(averaged, out / FILE)
