"""Waveforms to log-mel images, against the original's tensors, transformers' own filter banks and the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, spectrogram

from isthmus.encoders.imagebind.audio_clips import audio_views
from isthmus.encoders.imagebind.clips import clip_times
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.mel import filter_banks, log_mel_image, mel_filters

RATE = 16000


def test_equals_the_original(
    golden_file: Callable[[str], Any], assert_close: Callable[[Tensor, Tensor, str], None]
) -> None:
    golden, config = golden_file("imagebind_mel"), ImageBindConfig()
    long, short = (golden.inputs[name][0].numpy() for name in ("waveform", "waveform_short"))
    views = audio_views(long, RATE, config)
    assert_close(views, golden.outputs["mel_normalised"], "mel_normalised")
    assert_close(views * config.audio_std + config.audio_mean, golden.outputs["mel"], "mel")
    assert_close(torch.from_numpy(log_mel_image(short, RATE, 128, 204)), golden.outputs["mel_short"][0], "mel_short")
    for case, expected in golden.about["clip_times"].items():
        duration, clips = case.removesuffix(" clips").split("s,")
        np.testing.assert_allclose(clip_times(float(duration), 2.0, int(clips)), expected, atol=1e-9, err_msg=case)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize("bins", [64, 128])
def test_equals_the_spectrogram_of_transformers(bins: int) -> None:
    waveform = np.random.default_rng(0).normal(size=5000).astype(np.float32) * 0.1
    filters = mel_filter_bank(
        257, bins, 20, RATE / 2, RATE, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    expected = spectrogram(
        waveform, np.hanning(400), 400, 160, 512, 2.0, center=False, preemphasis=0.97, mel_filters=filters,
        log_mel="log", mel_floor=1.192092955078125e-07, remove_dc_offset=True,
    ).T  # fmt: skip
    np.testing.assert_allclose(mel_filters(bins, RATE, 512), filters, atol=1e-9)
    np.testing.assert_allclose(filter_banks(waveform, RATE, bins), expected, atol=1e-4)


@given(st.floats(0.1, 60), st.floats(0.1, 5), st.integers(1, 9))
def test_clips_cover_a_recording_evenly(duration: float, seconds: float, clips: int) -> None:
    times = clip_times(duration, seconds, clips)
    assert len(times) == clips and times[0][0] == 0
    assert all(end - begin == pytest.approx(seconds) for begin, end in times)
    if clips > 1:
        assert times[-1][1] == pytest.approx(max(duration, seconds))
        gaps = np.diff([begin for begin, _ in times])
        assert gaps == pytest.approx(gaps[0])


def test_another_rate_is_resampled(small_imagebind: ImageBindConfig) -> None:
    def tone(rate: int) -> np.ndarray[Any, Any]:
        return (0.3 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.float32)

    expected = audio_views(tone(RATE), RATE, small_imagebind)
    resampled = audio_views(tone(44100), 44100, small_imagebind)
    taken_as_is = audio_views(tone(44100), RATE, small_imagebind)
    assert resampled.shape == expected.shape == (2, 1, 32, 32)
    # The band of the tone; elsewhere there is only the resampler's noise floor.
    band = int(expected[0, 0].mean(dim=1).argmax())
    assert int(resampled[0, 0].mean(dim=1).argmax()) == band
    torch.testing.assert_close(resampled[:, 0, band, :26], expected[:, 0, band, :26], atol=2e-3, rtol=0)
    assert int(taken_as_is[0, 0].mean(dim=1).argmax()) != band


def test_loudness_offset_is_removed(small_imagebind: ImageBindConfig) -> None:
    waveform = np.random.default_rng(1).normal(size=8000).astype(np.float32) * 0.1
    torch.testing.assert_close(
        audio_views(waveform + np.float32(0.25), RATE, small_imagebind),
        audio_views(waveform, RATE, small_imagebind),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize(
    ("waveform", "said"),
    [(np.zeros(399, np.float32), "399 samples; expected at least 400"), (np.full(8000, np.nan, np.float32), "finite")],
)
def test_unusable_audio(waveform: np.ndarray[Any, Any], said: str, small_imagebind: ImageBindConfig) -> None:
    with pytest.raises(ValueError, match=said):
        audio_views(waveform, RATE, small_imagebind)
