"""Media as the bytes that a browser shows: what is kept as it is, and what is made smaller."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from isthmus.display.embedding import audio_wav, embedded, image_png, points_bytes, spectrogram_png, video_webp
from isthmus.pocket.world import Concept, draw
from isthmus.types import Media, Modality

CONCEPT = Concept(4, "cyan", "left")


def drawn(modality: Modality) -> Media:
    return draw(modality, CONCEPT, "test", np.random.default_rng(1))


def test_images_and_videos_are_kept_as_they_are() -> None:
    image, video = drawn(Modality.IMAGE), drawn(Modality.VIDEO)
    assert (np.asarray(Image.open(io.BytesIO(image_png(image.array)))) == image.array).all()
    assert video.rate is not None
    film = Image.open(io.BytesIO(video_webp(video.array, video.rate)))
    assert film.is_animated and film.n_frames == len(video.array)
    frames = []
    for index in range(film.n_frames):
        film.seek(index)
        frames.append(np.asarray(film.convert("RGB")))
    assert (np.stack(frames) == video.array).all()
    assert film.info["duration"] == 125


def test_large_pictures_are_made_smaller() -> None:
    big = np.zeros((576, 1024, 3), np.uint8)
    assert Image.open(io.BytesIO(image_png(big))).size == (256, 144)
    assert Image.open(io.BytesIO(video_webp(big[None].repeat(2, 0), 8.0))).size == (256, 144)


def test_sound_is_kept_and_its_spectrum_shows_its_tones() -> None:
    sound = drawn(Modality.AUDIO)
    assert sound.rate is not None
    content = audio_wav(sound.array, sound.rate)
    rate, samples = wavfile.read(io.BytesIO(content))
    assert rate == 16000 and np.abs(samples / 32767 - sound.array).max() <= 0.5 / 32767 + 1e-7
    with wave.open(io.BytesIO(content)) as file:
        assert file.getnchannels() == 1
    picture = np.asarray(Image.open(io.BytesIO(spectrogram_png(sound.array)))).astype(float)[:, :, 1].mean(1)
    peaks = {
        row for row in range(1, 63) if picture[row] > 60 and picture[row] >= max(picture[row - 1], picture[row + 1])
    }
    # The keypad's four: 770 and 1209 Hz; 64 rows from 4000 Hz down to 0.
    assert all(any(abs(row - (63.5 - tone / 4000 * 64)) <= 1.5 for row in peaks) for tone in (770, 1209)), peaks


def test_points_are_centred_in_their_ball() -> None:
    cloud = drawn(Modality.POINTS).array
    stored = np.frombuffer(points_bytes(cloud), np.uint8).reshape(-1, 6).astype(float)
    place = stored[:, :3] / 127.5 - 1
    assert np.linalg.norm(place, axis=1).max() == pytest.approx(1, abs=0.01)
    shape = cloud[:, :3] - (cloud[:, :3].max(0) + cloud[:, :3].min(0)) / 2
    assert np.abs(place - shape / np.linalg.norm(shape, axis=1).max()).max() < 0.005
    assert np.abs(stored[:, 3:] / 255 - cloud[:, 3:]).max() < 0.0021
    grey = np.frombuffer(points_bytes(cloud[:, :3]), np.uint8).reshape(-1, 6)[:, 3:]
    assert len(np.unique(grey)) == 1
    assert embedded(Media(Modality.POINTS, cloud[:1]))["kind"] == "points", "one point is its own centre"
