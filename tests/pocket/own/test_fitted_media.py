"""Media of any size come out at the experts' sizes, and nothing is lost unsaid."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isthmus.pocket.own.fitted_media import MARGIN, PEAK, fitted, pictures, sound
from isthmus.pocket.world import FRAMES, SAMPLES, SIZE
from isthmus.types import Media, Modality


@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 20))
def test_pictures_and_films_have_one_size(height: int, width: int, frames: int) -> None:
    array = np.random.default_rng(0).integers(0, 100, (frames, height, width, 3), dtype=np.uint8)
    film, was_cut = fitted(Media(Modality.VIDEO, array, rate=2.0))
    assert film.array.shape == (FRAMES, SIZE, SIZE, 3) and film.rate == 8.0 and not was_cut
    still, _ = fitted(Media(Modality.IMAGE, array[0]))
    assert still.array.shape == (SIZE, SIZE, 3)


def test_the_last_frame_stays_the_last() -> None:
    film = np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in range(20)])
    assert fitted(Media(Modality.VIDEO, film, rate=4.0))[0].array[[0, -1], 0, 0, 0].tolist() == [0, 19]


def test_paper_is_inverted_and_a_dark_ground_is_not() -> None:
    dark = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    dark[:, 10:20, 15] = 250
    assert np.array_equal(pictures(dark), dark)
    assert np.array_equal(pictures(255 - dark), dark)


@given(st.integers(0, 3000), st.integers(400, 20000), st.integers(0, 3000), st.floats(0.01, 1.0))
def test_sounds_begin_at_once_at_one_level(before: int, length: int, after: int, level: float) -> None:
    tone = level * np.sin(np.arange(length) * 0.3 + 1)
    whole = np.concatenate([np.zeros(before), tone, np.zeros(after)]).astype(np.float32)
    samples, was_cut = sound(whole)
    assert samples.shape == (SAMPLES,) and samples.dtype == np.float32
    assert abs(np.abs(samples).max() - PEAK) < 0.02
    assert np.flatnonzero(np.abs(samples) > 0.1)[0] <= MARGIN + 10
    # Up to a few samples near a zero crossing at either end belong to the silence.
    assert was_cut == (length > SAMPLES) or abs(length - SAMPLES) <= 2 * MARGIN + 20


def test_silence_stays_silent() -> None:
    samples, was_cut = sound(np.zeros(100, np.float32))
    assert not samples.any() and not was_cut


def test_points_stay_as_they_are() -> None:
    cloud = Media(Modality.POINTS, np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    assert fitted(cloud) == (cloud, False)
