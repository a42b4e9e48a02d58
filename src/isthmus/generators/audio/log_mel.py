"""Waveform -> log-mel spectrogram, as AudioLDM's VAE and vocoder expect it.

Magnitudes of a centred, Hann-windowed STFT, Slaney's mel filters with unit area, natural logarithm above a floor.
Source: Liu et al., AudioLDM, arXiv 2301.12503, section 4 and appendix; the mel scale is Slaney's Auditory Toolbox.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=8)
def mel_filters(sample_rate: int, fft_size: int, bins: int, lowest: float, highest: float) -> np.ndarray[Any, Any]:
    """(fft_size // 2 + 1, bins) float32: triangles of unit area in Hz, evenly spaced on Slaney's mel scale."""
    from transformers.audio_utils import mel_filter_bank

    shape = (fft_size // 2 + 1, bins, lowest, highest, sample_rate)
    filters: np.ndarray[Any, Any] = mel_filter_bank(*shape, norm="slaney", mel_scale="slaney")
    return filters.astype(np.float32)


def log_mel(
    waveform: Tensor,
    sample_rate: int = 16_000,
    bins: int = 64,
    fft_size: int = 1024,
    hop: int = 160,
    lowest: float = 0.0,
    highest: float = 8_000.0,
    floor: float = 1e-5,
) -> Tensor:
    """The log-mel spectrogram of waveforms, differentiable.

    Args:
        waveform: (..., L) float32 in [-1, 1], longer than half of ``fft_size``.
        sample_rate: samples a second.
        bins: mel bands.
        fft_size: window and transform length, in samples.
        hop: samples between frames.
        lowest: lower end of the mel bands, Hz.
        highest: upper end, Hz.
        floor: smaller magnitudes are raised to this before the logarithm.

    Returns:
        (..., L // hop + 1, bins) float32.

    Raises:
        ValueError: the waveform is too short for one frame.
    """
    length = waveform.shape[-1]
    if length <= fft_size // 2:
        raise ValueError(f"waveform: found {length} samples; expected more than {fft_size // 2}. Pad it with zeros.")
    window = torch.hann_window(fft_size, device=waveform.device)
    spectrum = torch.stft(
        waveform.reshape(-1, length), fft_size, hop, window=window, center=True, pad_mode="reflect", return_complex=True
    )
    filters = torch.from_numpy(mel_filters(sample_rate, fft_size, bins, lowest, highest)).to(waveform.device)
    mel = spectrum.abs().transpose(-1, -2) @ filters
    return mel.clamp_min(floor).log().reshape(*waveform.shape[:-1], -1, bins)
