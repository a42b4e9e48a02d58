"""Log-mel spectrograms of tones, and the autoencoder of the generator's latents."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.generators.audio.log_mel import log_mel
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.world import SAMPLE_RATE, SAMPLES, Split
from isthmus.pocket.worlds import DRAWN, World
from isthmus.types import Modality

log = logging.getLogger(__name__)

HOP = 160
FRAMES = SAMPLES // HOP
BINS = 64
LATENT_CHANNELS = 4
WIDTHS = (8, 16, 32, 48)
"""Channels at each resolution; there are three halvings, to 8 x 8 latents."""
PEAK = 0.5


def draw_tones(count: int, split: Split, seed: int, world: World = DRAWN) -> tuple[Tensor, Tensor, Tensor]:
    """The world's sounds: waveforms (n, SAMPLES) at AudioLDM's level, log-mels (n, FRAMES, BINS), and digits (n,)."""
    # The world's tones don't depend on scans: splits differ by their random numbers.
    random = np.random.default_rng((seed, ("train", "validation", "test").index(split)))
    concepts = [world.concept(random) for _ in range(count)]
    drawn = [world.draw(Modality.AUDIO, concept, split, random).array for concept in concepts]
    sounds = torch.from_numpy(np.stack(drawn))
    sounds = sounds - sounds.mean(1, keepdim=True)
    sounds = sounds * (PEAK / (sounds.abs().amax(1, keepdim=True) + 1e-8))
    return sounds, log_mel(sounds, SAMPLE_RATE, BINS, hop=HOP)[:, :FRAMES], torch.tensor([c.digit for c in concepts])


def build_autoencoder(mels: Tensor) -> Any:
    """An ``AutoencoderKL`` of spectrograms in their own units, initialised so that it standardises them internally."""
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(WIDTHS),
        block_out_channels=WIDTHS,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT_CHANNELS,
        sample_size=FRAMES,
        mid_block_add_attention=False,
    )
    mean, deviation = mels.mean(), mels.std()
    with torch.no_grad():
        first, last = vae.encoder.conv_in, vae.decoder.conv_out
        first.weight /= deviation
        first.bias -= first.weight.sum((1, 2, 3)) * mean
        last.weight *= deviation
        last.bias.copy_(last.bias * deviation + mean)
    return vae


def train_autoencoder(mels: Tensor, steps: int, seed: int, snapshot: Path | None = None, start: Any = None) -> Any:
    """AutoencoderKL from 64 x 64 log-mels to 8 x 8 x 4, its latents scaled to unit deviation by ``scaling_factor``.

    ``start`` is one to continue from, which is modified.
    """
    torch.manual_seed(seed)
    vae = build_autoencoder(mels) if start is None else start.requires_grad_(True)
    deviation = float(mels.std())

    def loss(step: int) -> Tensor:
        batch = mels[torch.randint(len(mels), (8,)), None]
        posterior = vae.encode(batch).latent_dist
        error = (vae.decode(posterior.sample()).sample - batch) / deviation
        total: Tensor = error.abs().mean() + error.square().mean() + 2e-5 * posterior.kl().mean()
        return total

    fit("tone autoencoder", vae, loss, steps, 3e-3, snapshot=snapshot, seed=seed)
    vae.eval().requires_grad_(False)
    means, deviations = encoded(vae, mels[:1000])
    latents = means + deviations * torch.randn_like(means)
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    error = functional.l1_loss(decoded(vae, means[:200]), mels[:200])
    log.info("tone autoencoder: error %.3f nepers, scale %.3f", float(error), 1 / latents.std())
    return vae


@torch.no_grad()
def encoded(vae: Any, mels: Tensor) -> tuple[Tensor, Tensor]:
    """(n, FRAMES, BINS) -> the posterior's means and deviations, (n, 4, 8, 8) each, not scaled."""
    posteriors = [vae.encode(part[:, None]).latent_dist for part in mels.split(100)]
    return torch.cat([p.mean for p in posteriors]), torch.cat([p.std for p in posteriors])


@torch.no_grad()
def decoded(vae: Any, latents: Tensor) -> Tensor:
    """(n, 4, 8, 8), not scaled -> (n, FRAMES, BINS)."""
    return torch.cat([vae.decode(part).sample[:, 0] for part in latents.split(100)])
