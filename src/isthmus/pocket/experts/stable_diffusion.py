"""The embedded image generator: a Stable Diffusion pipeline for 32 x 32 digits, trained from scratch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.pocket.experts.captions import WIDTH, build_tokenizer, tokenized, train_text_encoder
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.denoising import denoising_loss, scheduler
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.experts.tokenizers import save_tokenizer
from isthmus.pocket.world import SIZE
from isthmus.pocket.worlds import DRAWN, World
from isthmus.published import read_published
from isthmus.types import Modality

if TYPE_CHECKING:
    # diffusers' classes come lazily and untyped.
    from typing import Any as AutoencoderKL
    from typing import Any as UNet2DConditionModel

    from transformers import CLIPTextModel, CLIPTokenizer

log = logging.getLogger(__name__)

LATENT_CHANNELS = 4
CHANNELS = (64, 64)
HEADS = 4
BATCH = 32
UNSAID = 0.1
"""The probability of dropping the caption, which trains the unconditional model for guidance."""


def pixels(array: np.ndarray) -> Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.moveaxis(array, -1, -3).astype(np.float32) / 127.5 - 1)


def build_autoencoder() -> AutoencoderKL:
    """AutoencoderKL from 32 x 32 to 8 x 8 x 4."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT_CHANNELS,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def train_autoencoder(
    steps: int, seed: int, snapshot: Path | None = None, world: World = DRAWN, start: AutoencoderKL | None = None
) -> AutoencoderKL:
    """The autoencoder, a new one or ``start``, which is changed, on images and on single frames of videos."""
    torch.manual_seed(seed)
    vae: Any = build_autoencoder() if start is None else start.requires_grad_(True)
    random = np.random.default_rng(seed)

    def drawn(modality: Modality, count: int) -> list[np.ndarray]:
        return [world.draw(modality, world.concept(random), "train", random).array for _ in range(count)]

    stills, frames = drawn(Modality.IMAGE, 4000), drawn(Modality.VIDEO, 500)
    pool = torch.cat([pixels(np.stack(stills)), pixels(np.concatenate(frames))])

    def loss(step: int) -> Tensor:
        batch = pool[torch.randint(len(pool), (32,))]
        posterior = vae.encode(batch).latent_dist
        restored = vae.decode(posterior.sample()).sample
        error: Tensor = (restored - batch).abs().mean() + functional.mse_loss(restored, batch)
        divergence: Tensor = posterior.kl().mean()
        return error + 2e-5 * divergence

    fit("autoencoder", vae, loss, steps, 3e-3, snapshot=snapshot, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latent_dist.sample() for part in pool[::8].split(250)])
        restored = vae.decode(vae.encode(pool[:200]).latent_dist.mode()).sample
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    log.info("autoencoder: error %.4f, scale %.3f", float((restored - pool[:200]).abs().mean()), 1 / latents.std())
    return vae.eval().requires_grad_(False)


def build_denoiser() -> UNet2DConditionModel:
    """A UNet with cross-attention to the caption only at 4 x 4; at 8 x 8 it would take twice the time."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=16,
    )


@torch.no_grad()
def image_pool(
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    size: int,
    seed: int,
    world: World = DRAWN,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latent means and deviations (n, 4, 8, 8), caption indices (n,) and every caption's condition; the last is ""."""
    random = np.random.default_rng(seed + 1)
    concepts = [world.concept(random, drop_colour=0.25, drop_motion=1.0) for _ in range(size)]
    captions = [*sorted({concept.caption(Modality.IMAGE) for concept in concepts}), ""]
    numbers = torch.tensor([captions.index(concept.caption(Modality.IMAGE)) for concept in concepts])
    conditions = encoder(tokenized(tokenizer, captions)).last_hidden_state
    means, deviations = [], []
    for start in range(0, size, 500):
        arrays = [world.draw(Modality.IMAGE, c, "train", random).array for c in concepts[start : start + 500]]
        posterior = vae.encode(pixels(np.stack(arrays))).latent_dist
        means.append(posterior.mean)
        deviations.append(posterior.std)
    return torch.cat(means), torch.cat(deviations), numbers, conditions


def train_denoiser(
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int,
    snapshot: Path | None = None,
    pool_size: int = 20000,
    world: World = DRAWN,
    start: UNet2DConditionModel | None = None,
) -> UNet2DConditionModel:
    """The denoiser, on cached latents and conditions: neither the autoencoder nor the text model runs in a step.

    ``start`` is one to continue from, which is modified.
    """
    torch.manual_seed(seed)
    first = build_denoiser() if start is None else start.requires_grad_(True)
    # This layout is a sixth faster on CPUs.
    unet = first.to(memory_format=torch.channels_last)
    means, deviations, numbers, conditions = image_pool(vae, encoder, tokenizer, pool_size, seed, world)
    levels = scheduler().alphas_cumprod
    scale = vae.config.scaling_factor

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(means), (BATCH,))
        clean = (means[chosen] + deviations[chosen] * torch.randn_like(means[chosen])) * scale
        captions = torch.where(torch.rand(BATCH) < UNSAID, len(conditions) - 1, numbers[chosen])
        times = torch.randint(len(levels), (BATCH,))
        return denoising_loss(lambda noisy, t: unet(noisy, t, conditions[captions]).sample, clean, levels, times)

    averaged = fit("image denoiser", unet, loss, steps, 1.5e-3, average=0.999, snapshot=snapshot, seed=seed)
    return averaged


def train(
    out: Path,
    effort: float = 1.0,
    seed: int = 0,
    scratch: Path | None = None,
    world: World = DRAWN,
    start: Path | None = None,
) -> None:
    """Trains the pipeline's four parts and saves them in ``out`` in the layout of ``StableDiffusionPipeline``.

    Args:
        out: the pipeline's folder.
        effort: scales the steps and the number of images.
        seed: of all random choices.
        scratch: folder for snapshots, from which an interrupted run resumes.
        world: the source of images and videos.
        start: a trained pipeline to continue from; its text model isn't changed.
    """
    from diffusers import StableDiffusionPipeline

    def scaled(steps: int) -> int:
        return max(int(steps * effort), 2)

    first: Any = None
    if start is not None:
        first = read_published(StableDiffusionPipeline, start, use_safetensors=True, dtype=torch.float32)
    tokenizer = build_tokenizer() if first is None else first.tokenizer
    encoder = train_text_encoder(tokenizer, scaled(300), seed) if first is None else first.text_encoder
    kept = scratch / "image_autoencoder.pt" if scratch else None
    vae = train_autoencoder(scaled(2000), seed, kept, world, first and first.vae)
    kept = scratch / "image_denoiser.pt" if scratch else None
    size = max(int(20000 * min(effort, 1)), 600)
    unet = train_denoiser(vae, encoder, tokenizer, scaled(5000), seed, kept, size, world, first and first.unet)
    pipeline: Any = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out)  # to be loaded as float32
    save_tokenizer(tokenizer, out / "tokenizer")


def measure(
    folder: Path, judges: Path, count: int = 400, steps: int = 12, guidance: float = 3.0, world: World = DRAWN
) -> dict[str, float]:
    """The ceiling by attribute: the judge's accuracy on images generated from their true captions."""
    from isthmus.generators.image.stable_diffusion import StableDiffusion
    from isthmus.pocket.experts.ceiling import generator_ceiling
    from isthmus.pocket.judges.image import ImageJudge

    generator = StableDiffusion(folder, num_inference_steps=steps, guidance_scale=guidance, batch_size=50)
    return generator_ceiling(generator, ImageJudge(judges), count, world=world)


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/stable_diffusion", scratch="runs/pocket")
