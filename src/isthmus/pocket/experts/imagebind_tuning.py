"""Trains a trained ImageBind further on a user's images, videos and sounds; its text tower isn't changed."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isthmus.encoders.checkpoint import load_weights, read_weights, save_checkpoint, weights_file
from isthmus.encoders.image_transform import normalised
from isthmus.encoders.imagebind.audio_clips import audio_views
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.encoders.imagebind.video_frames import clip_frames
from isthmus.pocket.experts.augmenting import shifted_sounds, warped
from isthmus.pocket.experts.fitting import fit, halved
from isthmus.pocket.experts.imagebind import BATCH, measure
from isthmus.pocket.manifest_world import ManifestWorld, Pool
from isthmus.pocket.world import FRAMES, FRAMES_PER_SECOND, Concept
from isthmus.types import Modality

log = logging.getLogger(__name__)

STEPS = {"vision": 1000, "audio": 4000}
"""Steps of each tower: speech differs more from the embedded tones than scans differ, and its tower is small."""
LEARNING_RATE = 1e-3


def tune(
    out: Path, start: Path, world: ManifestWorld, effort: float = 1.0, seed: int = 0, scratch: Path | None = None
) -> dict[str, float]:
    """Trains the towers of vision and audio on the training split, saves all in ``out``, and measures them.

    Each medium is classified among the ten captions of its modality, as in zero-shot classification.

    Args:
        out: the new checkpoint's folder.
        start: the trained checkpoint's.
        world: the source of media.
        effort: scales the steps and the media that are measured.
        seed: of the batches.
        scratch: folder for snapshots of an interrupted training; None for none.

    Raises:
        ValueError: the world lacks media or can't read them, or there is no checkpoint at ``start``.
    """
    torch.manual_seed(seed)
    started, expert = time.monotonic(), ImageBind(start)
    raw, spoken = sounds(replace(expert.config, audio_mean=0.0, audio_std=1.0), world.pool(Modality.AUDIO, "train"))
    config = replace(expert.config, audio_mean=float(raw.mean()), audio_std=float(raw.std()))
    raw = (raw - config.audio_mean) / config.audio_std
    model, file = ImageBindModel(config), weights_file(start)
    load_weights(model, read_weights(file), file)
    chosen = clip_frames(FRAMES, FRAMES_PER_SECOND, config)
    with torch.no_grad():
        ids = {modality: expert.tokenize(captions(modality)) for modality in expert.modalities}
        texts = {modality: model.embed("text", own, scaled=True) for modality, own in ids.items()}
    drawn, image_digits = still(world.pool(Modality.IMAGE, "train"))
    filmed, played = moving(world.pool(Modality.VIDEO, "train"), chosen)

    def vision_loss(step: int) -> Tensor:
        strength = min(1.0, step / (0.3 * STEPS["vision"] * effort))
        first, second = torch.randint(len(image_digits), (BATCH,)), torch.randint(len(played), (BATCH,))
        images = normalised(warped(drawn[first].float() / 255, strength))
        views = warped(filmed[second].flatten(1, 3).float() / 255, strength).unflatten(1, filmed.shape[1:4])
        losses = [
            F.cross_entropy(model.embed("vision", media) @ texts[modality].T, truth, label_smoothing=0.05)
            for modality, media, truth in (
                (Modality.IMAGE, images, image_digits[first]),
                (Modality.VIDEO, channels_normalised(views), played[second]),
            )
        ]
        return torch.stack(losses).sum()

    def audio_loss(step: int) -> Tensor:
        chosen = torch.randint(len(spoken), (BATCH,))
        embedded = model.embed("audio", shifted_sounds(raw[chosen]))
        return F.cross_entropy(embedded @ texts[Modality.AUDIO].T, spoken[chosen], label_smoothing=0.05)

    averaged = dict(model.named_buffers())
    for tower, loss in (("vision", vision_loss), ("audio", audio_loss)):
        for name, weight in model.named_parameters():
            weight.requires_grad_(f".{tower}." in name)
        own = fit(
            f"imagebind {tower}",
            model,
            loss,
            max(int(STEPS[tower] * effort), 2),
            LEARNING_RATE,
            weight_decay=0.05,
            average=0.995,
            snapshot=scratch / f"imagebind_{tower}.pt" if scratch else None,
            seed=seed,
        )
        averaged |= {name: weight for name, weight in own.named_parameters() if f".{tower}." in name}
    # Text tower and buffers are kept: the average of the mask, which has infinite entries, would be NaN.
    save_checkpoint(out, "imagebind", config, halved(model.state_dict() | averaged))
    shutil.copytree(start / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    log.info("imagebind on top of %s: %.0f s", start, time.monotonic() - started)
    return measure(out, max(int(1000 * min(effort, 1.0)), 100), world)


def captions(modality: Modality) -> list[str]:
    """The caption of each digit in a modality."""
    return [Concept(digit).caption(modality) for digit in range(10)]


def still(pool: Pool) -> tuple[Tensor, Tensor]:
    """Images (n, 3, H, W) uint8 and digits (n,)."""
    return torch.from_numpy(pool.arrays()).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(pool.digits)


def moving(pool: Pool, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    """The frames that the expert uses, (n, clips, 3, frames, H, W) uint8, and digits (n,)."""
    films = np.stack([medium.array[chosen] for medium in pool.media])  # (n, clips, frames, H, W, 3)
    return torch.from_numpy(films).permute(0, 1, 5, 2, 3, 4).contiguous(), torch.from_numpy(pool.digits)


def channels_normalised(views: Tensor) -> Tensor:
    """(B, clips, 3, frames, H, W) in [0, 1] -> the same, normalised by CLIP's statistics."""
    return normalised(views.transpose(2, 3)).transpose(2, 3)


def sounds(config: ImageBindConfig, pool: Pool) -> tuple[Tensor, Tensor]:
    """Log-mel views (n, clips, 1, bins, frames) and digits (n,)."""
    views = [audio_views(medium.array, medium.rate or 0.0, config) for medium in pool.media]
    return torch.stack(views), torch.from_numpy(pool.digits)
