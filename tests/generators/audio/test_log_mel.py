"""The log-mel spectrogram against transformers' own, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from isthmus.generators.audio.log_mel import log_mel, mel_filters


def test_filters_are_of_unit_area_and_evenly_spaced_on_slaneys_scale() -> None:
    """Below 1 kHz a mel is 200 / 3 Hz; above it, 27 of them are a factor of 6.4."""
    filters = mel_filters(22_050, 16_384, 80, 30.0, 7600.0)
    hertz = np.arange(len(filters)) * (22_050 / 16_384)
    np.testing.assert_allclose(np.trapezoid(filters, hertz, axis=0), 1.0, atol=0.01)
    peaks = hertz[filters.argmax(axis=0)]
    mels = np.where(peaks < 1000, peaks * 3 / 200, 15 + 27 * np.log(peaks / 1000) / np.log(6.4))
    np.testing.assert_allclose(np.diff(mels), np.diff(mels).mean(), atol=0.03)


def test_spectrogram_is_the_librarys() -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    expected = spectrogram(
        waveform,
        window_function(1024, "hann", periodic=True),
        frame_length=1024,
        hop_length=160,
        power=1.0,
        mel_filters=mel_filter_bank(513, 64, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney"),
        mel_floor=1e-5,
        log_mel=None,
    )
    found = log_mel(torch.from_numpy(waveform))
    assert found.shape == (101, 64)
    np.testing.assert_allclose(found.exp().numpy().T, expected, rtol=1e-3, atol=1e-6)


def test_silence_is_the_floor_and_batches_are_rows() -> None:
    waves = torch.stack([torch.zeros(4000), torch.randn(4000)])
    both = log_mel(waves[None], floor=1e-4)
    assert both.shape == (1, 2, 26, 64)
    torch.testing.assert_close(both[0, 0], torch.full((26, 64), 1e-4).log())
    torch.testing.assert_close(both[0, 1], log_mel(waves[1], floor=1e-4))


@given(st.floats(min_value=100, max_value=7000), st.floats(min_value=0.01, max_value=1.0))
def test_a_tone_is_loudest_in_its_own_band_and_its_level_adds(hertz: float, level: float) -> None:
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(8000) / 16_000)
    loud = log_mel(tone)
    weights = mel_filters(16_000, 1024, 64, 0.0, 8000.0)[round(hertz * 1024 / 16_000)]
    assert weights[int(loud[20].argmax())] > 0
    above = loud > -5
    torch.testing.assert_close(log_mel(level * tone)[above], (loud + np.log(level))[above], atol=1e-2, rtol=1e-3)


def test_it_carries_gradients_and_refuses_a_click() -> None:
    wave = torch.randn(2000, requires_grad=True)
    with torch.inference_mode():
        log_mel(torch.zeros(2000))
    log_mel(wave).sum().backward()
    assert wave.grad is not None and torch.isfinite(wave.grad).all()
    with pytest.raises(ValueError, match="found 512 samples; expected more than 512"):
        log_mel(torch.zeros(512))
