"""A recording that is longer than what its encoder takes isn't cut without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_parts import Shelf

from isthmus.encoders.base import Encoder
from isthmus.encoders.beats.encoder import Beats
from isthmus.encoders.c_former.encoder import CFormer
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.speech.hubert import Hubert
from isthmus.encoders.speech.whisper import Whisper
from isthmus.encoders.truncation import Truncation
from isthmus.types import Media, Modality

Build = Callable[[Path], Encoder]
HEARS_ONE_SECOND: dict[str, Build] = {
    "whisper": Whisper,
    "hubert": lambda folder: Hubert(folder, seconds=1.0),
    "beats": lambda folder: Beats(folder, seconds=1.0),
    "c_former": lambda folder: CFormer(folder, seconds=1.0),
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf"))


def recording(seconds: float, rate: float = 16000.0) -> Media:
    samples = np.random.default_rng(0).normal(size=round(seconds * rate)) * 0.1
    return Media(Modality.AUDIO, samples.astype(np.float32), rate=rate, source="talk.wav")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("name", HEARS_ONE_SECOND)
def test_a_longer_recording_is_told_of(name: str, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    encoder = HEARS_ONE_SECOND[name](shelf(name))
    for seconds, rate in ((0.5, 16000), (1.0, 16000), (1.0, 44100)):
        encoder.preprocess(recording(seconds, rate))
    assert not said(caplog)
    whole = encoder.preprocess(recording(2.5))
    (warning,) = said(caplog)
    assert f"{type(encoder).__name__} {shelf(name)}: 1 recordings so far are longer than what it encodes" in warning
    assert "talk.wav of 2.5 s, the first 1 s are encoded" in warning
    assert "Cut recordings into pieces." in warning if name == "whisper" else "Raise the encoder's `seconds`" in warning
    first = encoder.preprocess(Media(Modality.AUDIO, recording(2.5).array[:16000], rate=16000.0))
    assert all(torch.equal(whole[key], first[key]) for key in whole)


def test_imagebind_tells_of_what_lies_between_its_clips(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    encoder = ImageBind(shelf("imagebind"), ("audio",))
    assert (encoder.config.audio_clips, encoder.config.audio_clip_seconds) == (1, 0.3)
    encoder.preprocess(recording(0.3))
    assert not said(caplog)
    encoder.preprocess(recording(0.64))
    (warning,) = said(caplog)
    assert "talk.wav of 0.6 s, 1 clips of 0.3 s are encoded" in warning


def test_warnings_become_rarer(caplog: pytest.LogCaptureFixture) -> None:
    truncation = Truncation("ears")
    for _ in range(9):
        truncation("talk.wav", 40.0, "the first 30 s are", "Cut it")
    assert truncation.count == 9
    assert [warning.split()[1] for warning in said(caplog)] == ["1", "2", "4", "8"]
    assert said(caplog)[0] == (
        "ears: 1 recordings so far are longer than what it encodes; of the last, talk.wav of 40.0 s, the first 30 s "
        "are encoded. Cut it."
    )
