"""Audio in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from isthmus.generators.audio.log_mel import log_mel
from isthmus.types import Media, Modality


def tone(seconds: float, rate: int, level: float = 0.2, hertz: float = 500.0) -> Media:
    samples = level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    return Media(Modality.AUDIO, samples.astype(np.float32), rate)


def test_length_comes_from_the_unet_or_the_user(build: Any, copied: Callable[..., Any]) -> None:
    generator = build("audio", num_inference_steps=1)
    assert generator.seconds == pytest.approx(0.32) and generator.frames == 32
    assert build("audio", copied("audio", unet={"sample_size": [24, 32]})).frames == 48
    [medium] = generator.generate(generator.condition(["cat"]), [0])
    assert medium.array.shape == (5120,) and medium.array.dtype == np.float32 and medium.rate == 16_000


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3, 0.333])
def test_an_asked_length_is_trimmed_as_the_pipeline_does(seconds: float, build: Any, pipeline: Any) -> None:
    generator = build("audio", seconds=seconds, num_inference_steps=1, guidance_scale=2.0)
    [medium] = generator.generate(generator.condition(["cat"]), [0])
    expected = pipeline("audio")(
        ["cat"],
        audio_length_in_s=seconds,
        num_inference_steps=1,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0),
    ).audios[0]
    np.testing.assert_array_equal(medium.array, expected)


@pytest.mark.parametrize("hundredths", [4, 7, 29, 57])
def test_what_is_made_and_what_is_trained_on_have_the_asked_length(hundredths: int, build: Any) -> None:
    generator = build("audio", seconds=hundredths * 0.01, num_inference_steps=1, guidance_scale=1.0)
    [medium] = generator.generate(generator.condition(["cat"]), [0])
    assert len(medium.array) == hundredths * 160
    assert generator.prepare(medium)["log_mel"].shape == (1, hundredths + hundredths % 2, 64)


def test_a_target_is_centred_scaled_padded_and_cut(build: Any) -> None:
    generator = build("audio")
    short, long = tone(0.1, 16_000), tone(2.0, 16_000)
    mel = generator.prepare(short)["log_mel"]
    samples = torch.from_numpy(short.array) - float(short.array.mean())
    wave = torch.zeros(5120)
    wave[:1600] = 0.5 * samples / samples.abs().max()
    assert mel.shape == (1, 32, 64)
    # Compared before the logarithm, which makes much of rounding near the floor.
    torch.testing.assert_close(mel[0].exp(), log_mel(wave)[:32].exp(), rtol=1e-4, atol=5e-8)
    torch.testing.assert_close(mel[0, -5:], torch.full((5, 64), 1e-5).log())
    quiet = Media(Modality.AUDIO, long.array * 0.01, 16_000)
    torch.testing.assert_close(
        generator.prepare(quiet)["log_mel"], generator.prepare(long)["log_mel"], rtol=1e-3, atol=1e-3
    )
    level = build("audio", peak=None).prepare(long)["log_mel"]
    torch.testing.assert_close(level[0], log_mel(torch.from_numpy(long.array[:5120]))[:32])


def test_silence_stays_silent(build: Any) -> None:
    mel = build("audio").prepare(Media(Modality.AUDIO, np.zeros(100, np.float32), 16_000))["log_mel"]
    torch.testing.assert_close(mel, torch.full((1, 32, 64), 1e-5).log())


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(rate: int, build: Any) -> None:
    generator = build("audio")
    found = generator.prepare(tone(2.0, rate))["log_mel"][0, 4:-4]
    expected = generator.prepare(tone(2.0, 16_000))["log_mel"][0, 4:-4]
    loud = expected > expected.max() - 4
    torch.testing.assert_close(found[loud], expected[loud], rtol=0.02, atol=0.05)


def test_too_short_is_refused(build: Any) -> None:
    with pytest.raises(ValueError, match=r"seconds: found 0.01; .* at least 0.02 \(2 frames"):
        build("audio", seconds=0.01)
