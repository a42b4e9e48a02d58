"""The embedded tone generator: an AudioLDM pipeline for keypad tones of 0.64 s, trained from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.generators.audio.audioldm import AudioLDM
from isthmus.generators.pipeline_classes import deprecation_silenced, pipeline_class
from isthmus.pocket.experts.audio.audioldm_autoencoder import (
    BINS,
    LATENT_CHANNELS,
    WIDTHS,
    decoded,
    draw_tones,
    encoded,
    train_autoencoder,
)
from isthmus.pocket.experts.audio.audioldm_text import WIDTH, build_tokenizer, embedded, train_text_encoder
from isthmus.pocket.experts.audio.audioldm_vocoder import train_vocoder
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.denoising import denoising_loss, scheduler
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.judges.audio import AudioJudge
from isthmus.pocket.judges.base import MediaJudge
from isthmus.pocket.world import SAMPLE_RATE, Concept
from isthmus.pocket.worlds import DRAWN, World
from isthmus.published import read_published
from isthmus.types import Media, Modality

CHANNELS = (32, 64)
BATCH = 48
UNSAID = 0.1
"""The probability of dropping the caption, which trains the unconditional model for guidance."""


def build_denoiser() -> Any:
    """A ``UNet2DConditionModel`` that is conditioned like AudioLDM's: the caption is added to the time embedding.

    It has only self-attention, so that its cross-attention widths are its own channels.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=BINS // 2 ** (len(WIDTHS) - 1),
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=CHANNELS,
        attention_head_dim=4,
        norm_num_groups=8,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=WIDTH,
        class_embeddings_concat=True,
    )


def train_denoiser(
    vae: Any,
    mels: Tensor,
    digits: Tensor,
    conditions: Tensor,
    steps: int,
    seed: int,
    snapshot: Path | None = None,
    start: Any = None,
) -> Any:
    """The denoiser, on cached latents: neither the autoencoder nor the text model runs in a step.

    Args:
        vae: the trained autoencoder.
        mels: (n, frames, bins) of the tones.
        digits: (n,) their digits.
        conditions: (11, WIDTH) the embeddings of each digit's caption, and of the empty caption at the end.
        steps: of training.
        seed: of all random choices.
        snapshot: file from which an interrupted run resumes.
        start: a denoiser to continue from, which is modified.
    """
    torch.manual_seed(seed)
    unet: Any = build_denoiser() if start is None else start.requires_grad_(True)
    means, deviations = encoded(vae, mels)
    schedule: Any = scheduler()
    scale, levels = vae.config.scaling_factor, schedule.alphas_cumprod

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(means), (BATCH,))
        clean = (means[chosen] + deviations[chosen] * torch.randn_like(means[chosen])) * scale
        captions = torch.where(torch.rand(BATCH) < UNSAID, len(conditions) - 1, digits[chosen])
        times = torch.randint(len(levels), (BATCH,))

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            predicted: Tensor = unet(noisy, times, None, class_labels=conditions[captions]).sample
            return predicted

        return denoising_loss(predict, clean, levels, times)

    averaged = fit("tone denoiser", unet, loss, steps, 2e-3, average=0.995, snapshot=snapshot, seed=seed)
    return averaged.requires_grad_(False)


def train(
    out: Path,
    effort: float = 1.0,
    seed: int = 0,
    scratch: Path | None = None,
    world: World = DRAWN,
    start: Path | None = None,
    judge: MediaJudge | None = None,
    vocoder_steps: int = 2500,
    mel_weight: float = 1.0,
) -> dict[str, float]:
    """Trains the pipeline's parts, saves them in ``out`` in the layout of ``AudioLDMPipeline``, and measures the whole.

    Args:
        out: the pipeline's folder.
        effort: scales the steps and the number of tones.
        seed: of all random choices.
        scratch: folder for snapshots, from which an interrupted run resumes.
        world: the source of sounds.
        start: a trained pipeline to continue from; its text model isn't changed.
        judge: of the world's sounds; by default that of tones.
        vocoder_steps: of the vocoder's training, before ``effort``.
        mel_weight: see :func:`train_vocoder`.

    Returns:
        The result of :func:`measure`.
    """

    def scaled(steps: int) -> int:
        return max(int(steps * effort), 2)

    def snapshot(part: str) -> Path | None:
        return scratch / f"audioldm_{part}_{seed}.pt" if scratch else None

    first = None if start is None else loaded(start)
    tokenizer = build_tokenizer() if first is None else first.tokenizer
    encoder = train_text_encoder(tokenizer, scaled(400), seed) if first is None else first.text_encoder
    with torch.no_grad():
        captions = [Concept(digit).caption(Modality.AUDIO) for digit in range(10)]
        conditions = embedded(encoder, tokenizer, [*captions, ""])
    sounds, mels, digits = draw_tones(max(int(6000 * min(effort, 1)), 100), "train", seed, world)
    vae = train_autoencoder(mels, scaled(1500), seed, snapshot("autoencoder"), first and first.vae)
    restored = decoded(vae, encoded(vae, mels)[0])
    vocoder = train_vocoder(
        sounds,
        mels,
        restored,
        scaled(vocoder_steps),
        seed,
        snapshot("vocoder"),
        first and first.vocoder,
        mel_weight,
    )
    unet = train_denoiser(vae, mels, digits, conditions, scaled(2500), seed, snapshot("denoiser"), first and first.unet)
    with deprecation_silenced():
        pipeline = pipeline_class("AudioLDMPipeline")(
            vae=vae,
            text_encoder=encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler(),
            vocoder=vocoder,
        )
        pipeline.to(torch.float16).save_pretrained(out)  # to be loaded as float32
    return measure(out, count=max(int(500 * min(effort, 1)), 10), world=world, judge=judge)


def loaded(folder: Path) -> Any:
    """The parts of a trained pipeline, by their names there."""
    with deprecation_silenced():
        return read_published(pipeline_class("AudioLDMPipeline"), folder, dtype=torch.float32)


def measure(
    folder: Path,
    count: int = 500,
    steps: int | None = None,
    guidance: float | None = None,
    world: World = DRAWN,
    judge: MediaJudge | None = None,
) -> dict[str, float]:
    """The judge's accuracy on real tones, after the vocoder, after autoencoder and vocoder, and on generated tones.

    Args:
        folder: the pipeline's.
        count: number of tones of each kind, with digits in turn.
        steps: denoising steps; None for the generator's own.
        guidance: likewise.
        world: the source of real sounds.
        judge: of its sounds; by default that of tones.
    """
    generator, judge = AudioLDM(folder, num_inference_steps=steps, guidance_scale=guidance), judge or AudioJudge()
    generator.load()
    sounds, mels, digits = draw_tones(count, "test", 0, world)
    with torch.no_grad():
        again = generator.vocoder(mels)
        through = generator.vocoder(decoded(generator.vae, encoded(generator.vae, mels)[0]))
    asked = [number % 10 for number in range(count)]
    condition = generator.condition([Concept(digit).caption(Modality.AUDIO) for digit in asked])
    made = [medium.array for medium in generator.generate(condition, seeds=range(count))]
    kinds = {
        "genuine": (list(sounds.numpy()), digits.tolist()),
        "vocoder": (list(again.numpy()), digits.tolist()),
        "autoencoder": (list(through.numpy()), digits.tolist()),
        "generated": (made, asked),
    }
    return {kind: _accuracy(judge, waves, truth) for kind, (waves, truth) in kinds.items()}


def _accuracy(judge: MediaJudge, waves: list[np.ndarray[Any, Any]], truth: list[int]) -> float:
    readings = judge.many([Media(Modality.AUDIO, wave, rate=float(SAMPLE_RATE)) for wave in waves])
    return float(np.mean([reading["digit"] == digit for reading, digit in zip(readings, truth, strict=True)]))


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/audioldm", scratch="runs/pocket")
