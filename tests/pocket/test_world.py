"""The embedded world's media: pure functions of concept and random numbers, that show what the concept says."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.pocket.world import (
    COLOURS,
    DIGITS,
    FRAMES,
    HUES,
    KEYPAD,
    MOTIONS,
    POINTS,
    SAMPLE_RATE,
    SAMPLES,
    SIZE,
    Concept,
    Split,
    draw,
    draw_concept,
    draw_scan,
    scans,
)
from isthmus.types import MEDIA, Modality

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
concepts = st.builds(Concept, st.integers(0, 9), st.sampled_from([None, *COLOURS]), st.sampled_from([None, *MOTIONS]))
seeds = st.integers(0, 2**32 - 1)


def hue_distance(one: float, other: float) -> float:
    return abs((one - other + 0.5) % 1 - 0.5)


def brightest_hue(pixels: np.ndarray) -> float:
    flat = pixels.reshape(-1, 3).astype(np.float64)
    strokes = flat[flat.max(1) >= np.quantile(flat.max(1), 0.9)].mean(0)
    return colorsys.rgb_to_hsv(*(strokes / max(strokes.max(), 1e-9)))[0]


def test_every_scan_is_in_one_split_only() -> None:
    sizes = {split: len(scans(split)[0]) for split in SPLITS}
    assert sizes == {"test": 360, "validation": 120, "train": 1317}
    seen: dict[bytes, str] = {}
    for split in SPLITS:
        for ink in scans(split)[0]:
            assert seen.setdefault(ink.tobytes(), split) == split


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_every_digit_and_ink_in_range(split: Split) -> None:
    ink, digits = scans(split)
    assert ink.shape[1:] == (8, 8)
    assert ink.min() == 0.0
    assert ink.max() == 1.0
    assert np.bincount(digits, minlength=10).min() >= 5


@pytest.mark.parametrize("split", SPLITS)
def test_a_drawn_scan_is_of_the_digit_and_of_the_split(split: Split) -> None:
    random = np.random.default_rng(0)
    ink, digits = scans(split)
    for digit in range(10):
        own = {scan.tobytes() for scan in ink[digits == digit]}
        assert {draw_scan(digit, split, random).tobytes() for _ in range(20)} <= own


@given(st.sampled_from(MEDIA), concepts, seeds)
def test_a_medium_is_a_pure_function_of_concept_and_random_numbers(
    modality: Modality, concept: Concept, seed: int
) -> None:
    first, again = (draw(modality, concept, "train", np.random.default_rng(seed)) for _ in range(2))
    assert first.modality is modality
    assert np.array_equal(first.array, again.array)
    other = draw(modality, concept, "train", np.random.default_rng(seed + 1))
    assert not np.array_equal(first.array, other.array)


def test_media_have_their_shapes_and_rates() -> None:
    media = {modality: draw(modality, Concept(3), "test", np.random.default_rng(0)) for modality in MEDIA}
    assert media[Modality.IMAGE].array.shape == (SIZE, SIZE, 3)
    assert media[Modality.VIDEO].array.shape == (FRAMES, SIZE, SIZE, 3)
    assert media[Modality.VIDEO].rate == 8.0
    assert media[Modality.AUDIO].array.shape == (SAMPLES,)
    assert media[Modality.AUDIO].rate == SAMPLE_RATE
    assert media[Modality.POINTS].array.shape == (POINTS, 6)


@given(st.integers(0, 9), st.sampled_from(COLOURS), st.sampled_from([Modality.IMAGE, Modality.VIDEO]), seeds)
def test_pictures_have_the_concepts_hue(digit: int, colour: str, modality: Modality, seed: int) -> None:
    medium = draw(modality, Concept(digit, colour), "train", np.random.default_rng(seed))
    assert hue_distance(brightest_hue(medium.array), HUES[colour]) < 1 / 20


@given(st.integers(0, 9), st.sampled_from(sorted(MOTIONS)), seeds)
def test_a_video_moves_in_the_concepts_direction(digit: int, motion: str, seed: int) -> None:
    frames = draw(Modality.VIDEO, Concept(digit, "red", motion), "train", np.random.default_rng(seed)).array
    weights = np.where(frames.max(-1) > 100, frames.max(-1), 0).astype(np.float64)
    mass = weights.sum((1, 2))
    x = (weights.sum(1) * np.arange(SIZE)).sum(1) / mass
    y = (weights.sum(2) * np.arange(SIZE)).sum(1) / mass
    way = np.array([x[-1] - x[0], y[-1] - y[0]])
    step = np.array(MOTIONS[motion])
    assert 7.0 < way @ step < 11.0
    assert abs(way @ step[::-1]) < 1.0


@given(st.integers(0, 9), seeds)
def test_a_tones_spectrum_peaks_at_its_key(digit: int, seed: int) -> None:
    samples = draw(Modality.AUDIO, Concept(digit), "test", np.random.default_rng(seed)).array
    assert np.abs(samples).max() < 1.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(SAMPLES)))
    hertz = np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE)
    for band, tone in zip(((600, 1050), (1100, 1600)), KEYPAD[digit], strict=True):
        inside = (hertz > band[0]) & (hertz < band[1])
        assert abs(hertz[inside][spectrum[inside].argmax()] - tone) < 4.0


def test_keypad_is_that_of_a_telephone() -> None:
    assert KEYPAD[1] == (697.0, 1209.0)
    assert KEYPAD[5] == (770.0, 1336.0)
    assert KEYPAD[9] == (852.0, 1477.0)
    assert KEYPAD[0] == (941.0, 1336.0)
    assert len(set(KEYPAD.values())) == 10


@given(st.integers(0, 9), st.sampled_from(COLOURS), seeds)
def test_points_are_a_flat_tinted_slab(digit: int, colour: str, seed: int) -> None:
    points = draw(Modality.POINTS, Concept(digit, colour), "train", np.random.default_rng(seed)).array
    assert np.abs(points[:, :3]).max() < 1.6
    assert points[:, 3:].min() >= 0.0
    assert points[:, 3:].max() <= 1.0
    assert hue_distance(colorsys.rgb_to_hsv(*points[:, 3:].mean(0))[0], HUES[colour]) < 1 / 20
    thinnest = np.linalg.svd(points[:, :3] - points[:, :3].mean(0), compute_uv=False)[-1] / np.sqrt(POINTS)
    assert thinnest < 0.1


@given(concepts, st.sampled_from(MEDIA))
def test_a_caption_says_what_the_modality_can_show(concept: Concept, modality: Modality) -> None:
    words = concept.caption(modality).split()
    assert words.count(DIGITS[concept.digit]) == 1
    shows_colour, moves = modality is not Modality.AUDIO, modality is Modality.VIDEO
    assert (concept.colour in words) == (shows_colour and concept.colour is not None)
    assert (concept.motion in words) == (moves and concept.motion is not None)
    assert concept.restricted(modality).caption(modality) == concept.caption(modality)


def test_captions_are_canonical() -> None:
    concept = Concept(7, "red", "left")
    assert concept.caption(Modality.VIDEO) == "a red seven moving left"
    assert concept.caption(Modality.IMAGE) == "a red seven"
    assert concept.caption(Modality.POINTS) == "a solid red seven"
    assert concept.caption(Modality.AUDIO) == "the tone of seven"
    assert Concept(7, motion="up").caption(Modality.VIDEO) == "a seven moving up"


def test_unsaid_attributes_are_drawn_at_random() -> None:
    random = np.random.default_rng(0)
    hues = [brightest_hue(draw(Modality.IMAGE, Concept(1), "train", random).array) for _ in range(80)]
    nearest = {min(HUES, key=lambda name: hue_distance(hue, HUES[name])) for hue in hues}
    assert nearest == set(COLOURS)


def test_concepts_are_uniform_and_dropped_as_often_as_told() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_concept(random, drop_colour=0.25, drop_motion=0.5) for _ in range(4000)]
    assert np.bincount([concept.digit for concept in drawn]).min() > 330
    assert 0.22 < np.mean([concept.colour is None for concept in drawn]) < 0.28
    assert 0.46 < np.mean([concept.motion is None for concept in drawn]) < 0.54
    full = [draw_concept(random) for _ in range(200)]
    assert all(concept.colour in COLOURS and concept.motion in MOTIONS for concept in full)
