"""Trains the digit reader from scratch, on images and video frames of the train split's handwriting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.judges.digit_reader import ILLEGIBLE, DigitReader, save_reader
from isthmus.pocket.judges.ink import ink_of, normalised
from isthmus.pocket.world import Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Modality

BATCH = 128
ILLEGIBLE_SHARE = 0.12


def written(split: Split, images: int, videos: int, seed: int, world: World = DRAWN) -> tuple[Tensor, Tensor]:
    """Ink (n, 32, 32) and digits (n,) of real images, and of two legible frames of each video."""
    random = np.random.default_rng(seed)
    pictures, digits = [], []
    for number in range(images + videos):
        concept = world.concept(random)
        if number < images:
            pictures.append(world.draw(Modality.IMAGE, concept, split, random).array)
            digits.append(concept.digit)
        else:
            film = world.draw(Modality.VIDEO, concept, split, random).array
            film = film[-1:] if world.is_written else film
            pictures += [film[random.integers(len(film))] for _ in range(2)]
            digits += [concept.digit] * 2
    return ink_of(torch.from_numpy(np.stack(pictures)).float() / 255), torch.tensor(digits)


def _warps(count: int) -> Tensor:
    """(count, 2, 3) random rotations, scales, shears and shifts."""
    turn = torch.randn(count) * 0.13
    chunk = 1 + torch.randn(count, 2) * 0.07
    shear = torch.randn(count) * 0.12
    turned = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], dim=1).view(-1, 2, 2)
    sheared = torch.eye(2).repeat(count, 1, 1)
    sheared[:, 0, 1] = shear
    return torch.cat([turned @ sheared * chunk[:, None], torch.randn(count, 2, 1) * 0.04], dim=2)


def _blurred(ink: Tensor, amount: float) -> Tensor:
    return torch.lerp(ink, functional.avg_pool2d(ink[:, None], 3, 1, 1)[:, 0], amount)


def illegible(ink: Tensor) -> Tensor:
    """Ink (n, H, W) that isn't a digit: in turn blotches, digits with shuffled parts, and two overlaid digits."""
    count, height, width = ink.shape
    noise = torch.randn(count, 1, height // 4, width // 4)
    blotches = (functional.interpolate(noise, (height, width), mode="bicubic")[:, 0] * 0.8).clamp(0, 1)
    quarters = torch.cat([ink[:, height // 2 :], ink[:, : height // 2].roll(1, 0)], dim=1).roll(width // 2, 2)
    overlaid = torch.maximum(ink, ink.roll(1, 0).flip(1).transpose(1, 2))
    kind = torch.arange(count)[:, None, None] % 3
    return torch.where(kind == 0, blotches, torch.where(kind == 1, quarters, overlaid))


def train(out: Path, effort: float = 1.0, seed: int = 0, world: World = DRAWN) -> None:
    """Trains the reader on the world's images and videos, and writes its weights to ``out``."""
    torch.manual_seed(seed)
    reader = DigitReader()
    pool, digits = written(
        "train", max(int(12000 * min(effort, 1)), 300), max(int(3000 * min(effort, 1)), 50), seed, world
    )
    bad = max(int(BATCH * ILLEGIBLE_SHARE), 3)

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(pool), (BATCH,))
        ink, labels = pool[chosen], digits[chosen].clone()
        ink = torch.cat([illegible(ink[:bad]), ink[bad:]])
        labels[:bad] = ILLEGIBLE
        ink = _blurred(ink, float(torch.rand(()) * 0.8))
        view = normalised(ink, _warps(BATCH))
        view = (view * (0.8 + 0.4 * torch.rand(BATCH, 1, 1, 1))) ** (0.7 + 0.7 * torch.rand(BATCH, 1, 1, 1))
        view = view + 0.05 * torch.randn_like(view)
        return functional.cross_entropy(reader(view), labels, label_smoothing=0.05)

    averaged = fit("digit judge", reader, loss, max(int(1600 * effort), 2), 3e-3, average=0.99, seed=seed)
    assert isinstance(averaged, DigitReader)
    save_reader(averaged, out)


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/judges")
