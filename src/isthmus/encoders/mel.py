"""Waveform -> log-mel filter banks as in Kaldi (HTK style, 25 ms windows every 10 ms, no dither).

The filters are transformers'. Its spectrogram, which loops over frames and rounds to complex64, isn't used: here the
frames are a strided view, and one FFT call in float64 transforms them all.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.010
PREEMPHASIS = 0.97
LOWEST_HERTZ = 20.0
HANN, POVEY = 1.0, 0.85
"""Exponents of the Hann window; Povey's window is Kaldi's own."""
FLOOR = float(np.finfo(np.float32).eps)
"""Energies below this are raised to it before the logarithm."""

Array = np.ndarray[Any, Any]


@cache
def mel_filters(bins: int, sample_rate: int, fft_size: int) -> Array:
    """(fft_size / 2 + 1, bins): triangular filters of equal width in mels, from 20 Hz to half the sample rate."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        # The lowest of 128 filters are narrower than the step between two frequencies, and empty, as in Kaldi.
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        shape = (fft_size // 2 + 1, bins, LOWEST_HERTZ, sample_rate / 2, sample_rate)
        filters: Array = mel_filter_bank(*shape, mel_scale="kaldi", triangularize_in_mel_space=True)
    return filters


def filter_banks(waveform: Array, sample_rate: int, bins: int, window_power: float = HANN) -> Array:
    """(L,) samples -> (frames, bins) float32, natural logarithms; windows that would extend past the end are omitted.

    Args:
        waveform: samples, at any scale.
        sample_rate: hertz.
        bins: number of filters.
        window_power: the exponent of the Hann window, :data:`HANN` or :data:`POVEY`.

    Raises:
        ValueError: the waveform is shorter than one window.
    """
    window, hop = round(WINDOW_SECONDS * sample_rate), round(HOP_SECONDS * sample_rate)
    if waveform.shape[0] < window:
        raise ValueError(
            f"audio of {waveform.shape[0]} samples; expected at least {window}, 25 ms: give a longer recording"
        )
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), window)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    # Pre-emphasis takes the sample before a frame's first to equal the first.
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    fft_size = 1 << (window - 1).bit_length()
    spectrum = np.fft.rfft((frames - PREEMPHASIS * previous) * np.hanning(window) ** window_power, fft_size, axis=1)
    energies = np.square(np.abs(spectrum)) @ mel_filters(bins, sample_rate, fft_size)
    result: Array = np.log(np.maximum(energies, FLOOR)).astype(np.float32)
    return result


def log_mel_image(waveform: Array, sample_rate: int, bins: int, target_length: int) -> Array:
    """(L,) samples -> (bins, target_length) float32: mean removed, zeros appended or frames cut off at the end."""
    banks = filter_banks(waveform - waveform.mean(), sample_rate, bins)[:target_length]
    return np.pad(banks, ((0, target_length - banks.shape[0]), (0, 0))).T


def resampled(waveform: Array, rate: float, wanted: int) -> Array:
    """(L,) float32 at another sample rate; unchanged where it already has the wanted one."""
    if rate == wanted:
        return waveform
    import soxr

    result: Array = soxr.resample(waveform, rate, wanted)
    return result
