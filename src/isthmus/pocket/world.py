"""One concept, a digit with attributes, in every modality: the generator of the embedded world's media.

Image: a handwritten scan (the UCI optical digits of scikit-learn), upsampled, tinted and placed. Video: the same,
moving. Points: the scan's ink extruded, tinted and turned. Audio: the digit's telephone keypad tone pair (ITU-T Q.23).
Every medium is a pure function of its concept and a random generator; train, validation and test are split by scan.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.random import Generator as Random

from isthmus.types import Media, Modality

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HUES: dict[str, float] = {"red": 0.0, "yellow": 1 / 6, "green": 1 / 3, "cyan": 1 / 2, "blue": 2 / 3, "magenta": 5 / 6}
COLOURS = tuple(HUES)
MOTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Unit steps (x, y) in image axes: y points down."""

Split = Literal["train", "validation", "test"]

SIZE = 32
FRAMES = 8
FRAMES_PER_SECOND = 8.0
SAMPLE_RATE = 16000
SAMPLES = 10240
"""0.64 s: 64 hops of 160 samples."""
POINTS = 384

LOW_TONES = (697.0, 770.0, 852.0, 941.0)
HIGH_TONES = (1209.0, 1336.0, 1477.0)
KEYPAD: dict[int, tuple[float, float]] = {0: (941.0, 1336.0)} | {
    digit: (LOW_TONES[(digit - 1) // 3], HIGH_TONES[(digit - 1) % 3]) for digit in range(1, 10)
}
"""The tone pair of each key, hertz (ITU-T Q.23)."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Concept:
    """A digit with attributes; those that are None aren't specified, and are random in media."""

    digit: int
    colour: str | None = None
    motion: str | None = None

    def restricted(self, modality: Modality) -> Concept:
        """The attributes that this modality shows: tones have no colour, and only videos have motion."""
        if modality is Modality.AUDIO:
            return Concept(self.digit)
        if modality in (Modality.IMAGE, Modality.POINTS):
            return Concept(self.digit, self.colour)
        return self

    def caption(self, modality: Modality) -> str:
        """Its caption in this modality, in canonical words."""
        shown = self.restricted(modality)
        words = [*([shown.colour] if shown.colour else []), DIGITS[shown.digit]]
        if modality is Modality.AUDIO:
            return f"the tone of {DIGITS[shown.digit]}"
        if modality is Modality.POINTS:
            return " ".join(["a", "solid", *words])
        if shown.motion:
            words += ["moving", shown.motion]
        return " ".join(["a", *words])


@cache
def scans(split: Split) -> tuple[Array, Array]:
    """The split's handwriting: ink (n, 8, 8) in [0, 1] and digits (n,). One scan is in one split only."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(2023).permutation(len(data.target))
    bounds = {"test": slice(0, 360), "validation": slice(360, 480), "train": slice(480, None)}
    chosen = order[bounds[split]]
    return (data.images[chosen] / 16.0).astype(np.float32), data.target[chosen].astype(np.int64)


@cache
def _scans_of(split: Split, digit: int) -> Array:
    ink, digits = scans(split)
    chosen: Array = ink[digits == digit]
    return chosen


def draw_scan(digit: int, split: Split, random: Random) -> Array:
    """The ink (8, 8) of one scan of this digit."""
    candidates = _scans_of(split, digit)
    scan: Array = candidates[random.integers(len(candidates))]
    return scan


def resized(ink: Array, side: int) -> Array:
    """A scan (8, 8) as (side, side) ink in [0, 1], with a margin that lets strokes at its border fade out."""
    from PIL import Image

    # One pixel of margin, so that strokes at the scan's border fade out instead of ending in an edge.
    picture = Image.fromarray(np.pad(ink, 1)).resize((side, side), Image.Resampling.BICUBIC)
    resized: Array = np.clip(np.asarray(picture), 0.0, 1.0)
    return resized


def tinted(colour: str | None, random: Random) -> Array:
    """(3,) sRGB in [0, 1]: a shade of this colour, or of any."""
    hue = HUES[colour] if colour else HUES[COLOURS[random.integers(len(COLOURS))]]
    hue = (hue + random.uniform(-0.02, 0.02)) % 1.0
    return np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.85, 1.0), random.uniform(0.85, 1.0)), dtype=np.float32)


def _place(glyph: Array, x: float, y: float) -> Array:
    """The glyph's centre at (x, y), to a fraction of a pixel, on an empty (SIZE, SIZE) canvas."""
    side = glyph.shape[0]
    left, top = x - side / 2, y - side / 2
    column, row = int(np.floor(left)), int(np.floor(top))
    dx, dy = left - column, top - row
    spread = np.zeros((side + 1, side + 1), dtype=np.float32)
    spread[:-1, :-1] += glyph * (1 - dx) * (1 - dy)
    spread[:-1, 1:] += glyph * dx * (1 - dy)
    spread[1:, :-1] += glyph * (1 - dx) * dy
    spread[1:, 1:] += glyph * dx * dy
    canvas = np.zeros((SIZE, SIZE), dtype=np.float32)
    rows = slice(max(row, 0), min(row + side + 1, SIZE))
    columns = slice(max(column, 0), min(column + side + 1, SIZE))
    canvas[rows, columns] = spread[rows.start - row : rows.stop - row, columns.start - column : columns.stop - column]
    return canvas


def _painted(ink: Array, tint: Array, random: Random) -> Array:
    """(..., SIZE, SIZE) ink -> (..., SIZE, SIZE, 3) uint8 on a dark ground with a little noise."""
    ground = random.uniform(0.0, 0.08)
    picture = ground + (tint - ground) * ink[..., None]
    picture = picture + random.normal(0.0, 0.01, picture.shape).astype(np.float32)
    painted: Array = np.clip(picture * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return painted


def draw_image(concept: Concept, split: Split, random: Random) -> Media:
    """A (32, 32, 3) image of the digit in its colour, near the centre."""
    glyph = resized(draw_scan(concept.digit, split, random), int(random.integers(25, 30)))
    x, y = SIZE / 2 + random.uniform(-1.5, 1.5, 2)
    return Media(Modality.IMAGE, _painted(_place(glyph, x, y), tinted(concept.colour, random), random))


def draw_video(concept: Concept, split: Split, random: Random) -> Media:
    """(8, 32, 32, 3): the digit crosses the middle in its direction, by about nine pixels in all."""
    glyph = resized(draw_scan(concept.digit, split, random), int(random.integers(22, 25)))
    motion = concept.motion or tuple(MOTIONS)[random.integers(len(MOTIONS))]
    step = np.array(MOTIONS[motion]) * random.uniform(1.2, 1.4)
    middle = SIZE / 2 + random.uniform(-0.5, 0.5, 2)
    times = np.arange(FRAMES) - (FRAMES - 1) / 2
    ink = np.stack([_place(glyph, *(middle + step * time)) for time in times])
    return Media(Modality.VIDEO, _painted(ink, tinted(concept.colour, random), random), rate=FRAMES_PER_SECOND)


def draw_points(concept: Concept, split: Split, random: Random) -> Media:
    """(384, 6): the strokes extruded to a slab, turned about the upright axis by up to 40 degrees, tinted."""
    side = 32
    ink = resized(draw_scan(concept.digit, split, random), side)
    weights = np.where(ink > 0.35, ink, 0.0).ravel().astype(np.float64)
    cells = random.choice(side * side, size=POINTS, p=weights / weights.sum())
    rows, columns = np.divmod(cells, side)
    jitter = random.uniform(-0.5, 0.5, (2, POINTS))
    x = (columns + jitter[0]) / side * 2 - 1
    y = 1 - (rows + jitter[1]) / side * 2
    z = random.uniform(-0.12, 0.12, POINTS)
    angle, tilt = random.uniform(-np.pi / 4.5, np.pi / 4.5), random.uniform(-0.25, 0.25)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    lean = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    place = np.stack([x, y, z], axis=1) @ (turn @ lean).T
    shade = tinted(concept.colour, random) + random.normal(0, 0.02, (POINTS, 3))
    return Media(Modality.POINTS, np.concatenate([place, np.clip(shade, 0, 1)], axis=1).astype(np.float32))


def draw_audio(concept: Concept, split: Split, random: Random) -> Media:
    """(10240,) at 16 kHz: the key's tone pair at a random level, phase, onset and length, in noise."""
    low, high = KEYPAD[concept.digit]
    length = int(random.integers(SAMPLES // 2, SAMPLES - 800))
    onset = int(random.integers(0, SAMPLES - length))
    time = np.arange(length) / SAMPLE_RATE
    level = random.uniform(0.15, 0.45)
    balance = random.uniform(0.7, 1.4)
    tone = np.sin(2 * np.pi * low * time + random.uniform(0, 2 * np.pi))
    tone += balance * np.sin(2 * np.pi * high * time + random.uniform(0, 2 * np.pi))
    ramp = np.minimum(1.0, np.minimum(np.arange(length), np.arange(length)[::-1]) / 160)
    sound = random.normal(0, random.uniform(0.0005, 0.005), SAMPLES)
    sound[onset : onset + length] += level * tone * ramp / (1 + balance)
    return Media(Modality.AUDIO, sound.astype(np.float32), rate=float(SAMPLE_RATE))


def draw(modality: Modality, concept: Concept, split: Split, random: Random) -> Media:
    """A medium of this modality that shows the concept; other attributes are random."""
    painters = {
        Modality.IMAGE: draw_image,
        Modality.VIDEO: draw_video,
        Modality.AUDIO: draw_audio,
        Modality.POINTS: draw_points,
    }
    return painters[modality](concept, split, random)


def draw_concept(random: Random, drop_colour: float = 0.0, drop_motion: float = 0.0) -> Concept:
    """A uniform concept, without colour and without motion with these probabilities."""
    return Concept(
        digit=int(random.integers(10)),
        colour=None if random.random() < drop_colour else COLOURS[random.integers(len(COLOURS))],
        motion=None if random.random() < drop_motion else tuple(MOTIONS)[random.integers(len(MOTIONS))],
    )
