"""The embedded video generator: a ZeroScope pipeline for 8 frames of 32 x 32, grown from the image generator.

Like the published model (ModelScope, arXiv 2308.06571), its UNet starts from the image UNet's weights, with temporal
layers that initially don't change frames, and learns motion from there. Autoencoder and text encoder are those of the
image generator.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.pocket.experts.captions import WIDTH, tokenized
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.denoising import denoising_loss, scheduler
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.experts.stable_diffusion import (
    CHANNELS,
    HEADS,
    LATENT_CHANNELS,
    UNSAID,
    pixels,
)
from isthmus.pocket.experts.tokenizers import save_tokenizer
from isthmus.pocket.world import FRAMES, FRAMES_PER_SECOND, SIZE
from isthmus.pocket.worlds import DRAWN, World
from isthmus.published import read_published
from isthmus.types import Modality

if TYPE_CHECKING:
    # diffusers' classes come lazily and untyped.
    from typing import Any as AutoencoderKL
    from typing import Any as UNet2DConditionModel
    from typing import Any as UNet3DConditionModel

    from transformers import CLIPTextModel, CLIPTokenizer

log = logging.getLogger(__name__)

BATCH = 8


def inflate(image_unet: UNet2DConditionModel) -> UNet3DConditionModel:
    """A video UNet whose output for every frame equals the image UNet's."""
    from diffusers import UNet3DConditionModel
    from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

    unet: Any = UNet3DConditionModel(
        sample_size=SIZE // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "UpBlock3D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        # Here this argument is a dimension, as its name says; the image UNet uses it as the number of heads.
        attention_head_dim=CHANNELS[-1] // HEADS,
        norm_num_groups=16,
    )
    shapes = {name: tensor.shape for name, tensor in unet.state_dict().items()}
    # The video UNet projects with linear layers where the image UNet has convolutions of one pixel: the same sums.
    state = {name: tensor.reshape(shapes[name]) for name, tensor in image_unet.state_dict().items()}
    unknown = unet.load_state_dict(state, strict=False)
    assert not unknown.unexpected_keys, unknown.unexpected_keys
    for module in unet.modules():
        if isinstance(module, TransformerTemporalModel):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return unet


@torch.no_grad()
def video_pool(
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    size: int,
    seed: int,
    world: World = DRAWN,
) -> tuple[Tensor, Tensor, Tensor]:
    """Latent means (n, 4, F, 8, 8), caption indices (n,) and every caption's condition; the last is ""."""
    random = np.random.default_rng(seed + 2)
    concepts = [world.concept(random, drop_colour=0.25, drop_motion=0.2) for _ in range(size)]
    captions = [*sorted({concept.caption(Modality.VIDEO) for concept in concepts}), ""]
    numbers = torch.tensor([captions.index(concept.caption(Modality.VIDEO)) for concept in concepts])
    conditions = encoder(tokenized(tokenizer, captions)).last_hidden_state
    means = []
    for start in range(0, size, 50):
        films = [world.draw(Modality.VIDEO, c, "train", random).array for c in concepts[start : start + 50]]
        clips = np.stack(films)
        latents = vae.encode(pixels(clips).flatten(0, 1)).latent_dist.mean
        means.append(latents.unflatten(0, clips.shape[:2]).transpose(1, 2))
    return torch.cat(means), numbers, conditions


def train_denoiser(
    unet: UNet3DConditionModel,
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int,
    snapshot: Path | None = None,
    pool_size: int = 6000,
    world: World = DRAWN,
) -> UNet3DConditionModel:
    """Trains ``unet``, on cached latents and conditions. Frames share a noise level, not the noise."""
    means, numbers, conditions = video_pool(vae, encoder, tokenizer, pool_size, seed, world)
    levels = scheduler().alphas_cumprod
    scale = vae.config.scaling_factor

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(means), (BATCH,))
        clean = means[chosen] * scale
        captions = torch.where(torch.rand(BATCH) < UNSAID, len(conditions) - 1, numbers[chosen])
        times = torch.randint(len(levels), (BATCH,))

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            # bfloat16 saves a third of a step, mostly in the temporal layers' matrix products.
            with torch.autocast("cpu", torch.bfloat16):
                predicted: Tensor = unet(noisy, times, conditions[captions]).sample
            return predicted

        return denoising_loss(predict, clean, levels, times)

    averaged = fit(
        "video denoiser", unet, loss, steps, 1.5e-3, average=0.998, snapshot=snapshot, snapshot_every=100, seed=seed
    )
    return averaged


def train(
    out: Path,
    images: Path,
    effort: float = 1.0,
    seed: int = 0,
    scratch: Path | None = None,
    world: World = DRAWN,
    start: Path | None = None,
) -> None:
    """Trains the video UNet and saves a ``TextToVideoSDPipeline`` in ``out``.

    Args:
        out: the pipeline's folder.
        images: the image generator, whose autoencoder and text encoder it shares.
        effort: scales the steps and the number of videos.
        seed: of all random choices.
        scratch: folder for snapshots, from which an interrupted run resumes.
        world: the source of videos.
        start: a trained video pipeline whose UNet is trained further; by default it is made from the image UNet.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from isthmus.generators.pipeline_classes import pipeline_class

    vae = read_published(AutoencoderKL, images, subfolder="vae", dtype=torch.float32).eval().requires_grad_(False)
    encoder = read_published(CLIPTextModel, images / "text_encoder", dtype=torch.float32).eval().requires_grad_(False)
    tokenizer = read_published(CLIPTokenizer, images / "tokenizer")
    if start is None:
        image_unet = read_published(UNet2DConditionModel, images, subfolder="unet", dtype=torch.float32)
        torch.manual_seed(seed)
        unet = inflate(image_unet)
    else:
        unet = read_published(UNet3DConditionModel, start, subfolder="unet", dtype=torch.float32)
    snapshot = scratch / "video_denoiser.pt" if scratch else None
    steps, pool = max(int(2500 * effort), 2), max(int(6000 * min(effort, 1)), 100)
    unet = train_denoiser(unet, vae, encoder, tokenizer, steps, seed, snapshot, pool, world)
    parts = {"vae": vae, "text_encoder": encoder, "tokenizer": tokenizer, "unet": unet, "scheduler": scheduler()}
    # In float16 like the published checkpoint, to be loaded as float32.
    pipeline_class("TextToVideoSDPipeline")(**parts).to(torch.float16).save_pretrained(out)
    save_tokenizer(tokenizer, out / "tokenizer")


def measure(
    folder: Path, judges: Path, count: int = 400, steps: int = 12, guidance: float = 3.0, world: World = DRAWN
) -> dict[str, float]:
    """The ceiling by attribute: the judge's accuracy on videos generated from their true captions."""
    from isthmus.generators.video.zeroscope import ZeroScope
    from isthmus.pocket.experts.ceiling import generator_ceiling
    from isthmus.pocket.judges.video import VideoJudge

    generator = ZeroScope(
        folder,
        num_inference_steps=steps,
        guidance_scale=guidance,
        num_frames=FRAMES,
        fps=FRAMES_PER_SECOND,
        batch_size=20,
    )
    return generator_ceiling(generator, VideoJudge(judges, last_frame=world.is_written), count, world=world)


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/zeroscope", images="checkpoints/pocket/stable_diffusion", scratch="runs/pocket")
