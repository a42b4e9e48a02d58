"""The vocoder: log-mel spectrograms -> waveforms, a HiFi-GAN generator trained on spectra alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.generators.audio.log_mel import log_mel
from isthmus.pocket.experts.audio.audioldm_autoencoder import BINS, HOP
from isthmus.pocket.experts.fitting import fit
from isthmus.pocket.world import SAMPLE_RATE

BATCH = 4
SPECTRA = (512, 1024, 2048)
"""STFT windows of the loss, in samples: the longest resolves 8 Hz."""


def build_vocoder(mels: Tensor) -> Any:
    """``SpeechT5HifiGan`` to 16 kHz, that standardises its input by the statistics of ``mels`` (n, frames, bins).

    A spectrogram has no phase, and all frames of a steady tone are equal: a network with a small receptive field can
    only output signals of period 160 samples, multiples of 100 Hz, which most keypad tones aren't. So the first stage
    has a low rate (200 Hz) and dilations that span over half a second, to locate frames relative to the tone's onset.
    """
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    vocoder: Any = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=BINS,
            sampling_rate=SAMPLE_RATE,
            upsample_initial_channel=128,
            upsample_rates=[2, 4, 4, 5],
            upsample_kernel_sizes=[4, 8, 8, 11],
            resblock_kernel_sizes=[7],
            resblock_dilation_sizes=[[1, 4, 12]],
            normalize_before=True,
        )
    )
    # HiFi-GAN's initialisation (deviation 0.01, before weight normalisation) is too small for such a short training.
    for module in vocoder.modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
            module.reset_parameters()
    vocoder.mean.copy_(mels.mean((0, 1)))
    vocoder.scale.copy_(mels.std((0, 1)))
    return vocoder


def spectral_loss(made: Tensor, real: Tensor, mel_weight: float = 1.0) -> Tensor:
    """The distance of waveforms (B, L) in magnitudes at three resolutions and in log-mels.

    Source: Yamamoto et al., Parallel WaveGAN, arXiv 1910.11480, section 2.2 (spectral convergence and log magnitude).
    """
    ours, theirs = (log_mel(wave, SAMPLE_RATE, BINS, hop=HOP) for wave in (made, real))
    terms = [mel_weight * functional.l1_loss(ours, theirs)]
    for size in SPECTRA:
        window = torch.hann_window(size)
        ours, theirs = (
            torch.stft(wave, size, size // 4, window=window, return_complex=True).abs().clamp(min=1e-4)
            for wave in (made, real)
        )
        terms.append((ours - theirs).norm() / theirs.norm())
        terms.append(0.3 * functional.l1_loss(ours.log(), theirs.log()))
    return torch.stack(terms).sum()


def train_vocoder(
    sounds: Tensor,
    mels: Tensor,
    restored: Tensor,
    steps: int,
    seed: int,
    snapshot: Path | None = None,
    start: Any = None,
    mel_weight: float = 1.0,
) -> Any:
    """Trains a vocoder on real spectrograms and on those reconstructed by the autoencoder.

    Args:
        sounds: (n, L) waveforms.
        mels: (n, L // HOP, BINS) their log-mels.
        restored: the same after the autoencoder.
        steps: of training.
        seed: of all random choices.
        snapshot: file from which an interrupted run resumes.
        start: a vocoder to continue from; only its input statistics are replaced.
        mel_weight: of the log-mel error relative to the others: formants distinguish speech.
    """
    torch.manual_seed(seed)
    vocoder = build_vocoder(mels)
    if start is not None:
        statistics = {name: vocoder.state_dict()[name] for name in ("mean", "scale")}
        vocoder.load_state_dict(start.state_dict() | statistics)

    def loss(step: int) -> Tensor:
        chosen = torch.randint(len(sounds), (BATCH,))
        genuine = torch.rand(BATCH, 1, 1) < 0.3
        inputs = torch.where(
            genuine, mels[chosen], restored[chosen] + 0.1 * torch.randn(()) * torch.randn(BATCH, 1, BINS)
        )
        return spectral_loss(vocoder(inputs), sounds[chosen], mel_weight)

    averaged = fit("vocoder", vocoder, loss, steps, 2e-3, weight_decay=0.0, average=0.995, snapshot=snapshot, seed=seed)
    return averaged.requires_grad_(False)
