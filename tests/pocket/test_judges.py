"""Judges: right on genuine media of the test split, silent where there is nothing to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.pocket.judges.audio import AudioJudge, tone_shares
from isthmus.pocket.judges.base import agreement, judge_accuracy
from isthmus.pocket.judges.digit_reader import FILE
from isthmus.pocket.judges.image import ImageJudge
from isthmus.pocket.judges.ink import SIDE, moments, normalised
from isthmus.pocket.judges.text import TextJudge
from isthmus.pocket.judges.training import train
from isthmus.pocket.judges.video import VideoJudge, motion_of
from isthmus.pocket.world import COLOURS, DIGITS, KEYPAD, MOTIONS, Concept, draw, draw_concept
from isthmus.types import Media, Modality


@pytest.fixture(scope="module")
def weights(repository: Path) -> Path:
    return repository / "checkpoints" / "pocket" / "judges"


@pytest.fixture(scope="module")
def image_judge(weights: Path) -> ImageJudge:
    return ImageJudge(weights)


@pytest.fixture(scope="module")
def video_judge(weights: Path) -> VideoJudge:
    return VideoJudge(weights)


def image(array: np.ndarray) -> Media:
    return Media(Modality.IMAGE, np.clip(array, 0, 255).astype(np.uint8))


def sound(array: np.ndarray, rate: float = 16_000.0) -> Media:
    return Media(Modality.AUDIO, array.astype(np.float32), rate=rate)


def tones(*hertz: float, seconds: float = 0.4, rate: float = 16_000.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 0.2 * np.sum([np.sin(2 * np.pi * f * time + f) for f in hertz], axis=0)


def genuine(modality: Modality, count: int, seed: int = 1) -> tuple[list[Media], list[Concept]]:
    random = np.random.default_rng(seed)
    concepts = [draw_concept(random) for _ in range(count)]
    return [draw(modality, concept, "test", random) for concept in concepts], concepts


def test_image_judge_reads_genuine_images(image_judge: ImageJudge) -> None:
    scores = judge_accuracy(image_judge, n=200)
    assert scores["digit"] >= 0.98
    assert scores["colour"] == 1.0
    assert scores["all"] == scores["digit"]


def test_video_judge_reads_genuine_videos(video_judge: VideoJudge) -> None:
    scores = judge_accuracy(video_judge, n=40)
    assert scores["digit"] >= 0.97
    assert scores["colour"] == scores["motion"] == 1.0


def test_audio_judge_reads_genuine_tones() -> None:
    assert judge_accuracy(AudioJudge(), n=200) == {"digit": 1.0, "all": 1.0}


def test_text_judge_reads_captions() -> None:
    assert judge_accuracy(TextJudge(), n=50) == {"digit": 1.0, "colour": 1.0, "motion": 1.0, "all": 1.0}


def test_accuracy_counts_what_is_wrong() -> None:
    class Sure(TextJudge):
        def many(self, media):  # type: ignore[no-untyped-def]
            return [{"digit": 3, "colour": "red", "motion": None} for _ in media]

    random = np.random.default_rng(0)
    concepts = [draw_concept(random) for _ in range(100)]
    scores = judge_accuracy(Sure(), n=100)
    assert scores["digit"] == np.mean([concept.digit == 3 for concept in concepts])
    assert scores["colour"] == np.mean([concept.colour == "red" for concept in concepts])
    assert scores["motion"] == scores["all"] == 0.0


def test_agreement_ignores_what_is_unsaid() -> None:
    reading = {"digit": 4, "colour": "red", "motion": None}
    assert agreement(reading, Concept(4)) == {"digit": True}
    assert agreement(reading, Concept(5, "red", "left")) == {"digit": False, "colour": True, "motion": False}
    assert agreement({"digit": 4}, Concept(4, "red", "left")) == {"digit": True}


def test_batches_read_as_single_media_do(image_judge: ImageJudge, video_judge: VideoJudge) -> None:
    images, _ = genuine(Modality.IMAGE, 12)
    images.insert(5, image(np.kron(images[0].array, np.ones((2, 2, 1)))))
    assert image_judge.many(images) == [image_judge(medium) for medium in images]
    videos, _ = genuine(Modality.VIDEO, 3)
    assert video_judge.many(videos) == [video_judge(medium) for medium in videos]


def test_size_and_place_do_not_matter(image_judge: ImageJudge) -> None:
    images, concepts = genuine(Modality.IMAGE, 20)
    larger = [image(np.pad(np.kron(m.array, np.ones((3, 3, 1))), ((30, 5), (0, 25), (0, 0)))) for m in images]
    read = [
        reading["digit"] == concept.digit for reading, concept in zip(image_judge.many(larger), concepts, strict=True)
    ]
    assert np.mean(read) >= 0.9


def test_pictures_without_writing_are_illegible(image_judge: ImageJudge) -> None:
    random = np.random.default_rng(0)
    dark = [image(random.normal(20, 3, (32, 32, 3))) for _ in range(20)]
    noise = [image(random.uniform(0, 255, (32, 32, 3))) for _ in range(20)]
    even = [image(np.full((32, 32, 3), level)) for level in (0, 128, 255)]
    assert {reading["digit"] for reading in image_judge.many([*dark, *noise, *even])} == {None}
    assert {reading["colour"] for reading in image_judge.many([*dark, *even])} == {None}


def test_colour_is_none_for_grey_and_for_motley_strokes(image_judge: ImageJudge) -> None:
    medium = draw(Modality.IMAGE, Concept(8, "red"), "test", np.random.default_rng(0))
    ink = medium.array.max(-1)
    grey = image(np.repeat(ink[:, :, None], 3, axis=2))
    motley = np.zeros_like(medium.array)
    motley[:, :16, 0], motley[:, 16:, 2] = ink[:, :16], ink[:, 16:]
    readings = image_judge.many([medium, grey, image(motley)])
    assert [reading["digit"] for reading in readings] == [8, 8, 8]
    assert [reading["colour"] for reading in readings] == ["red", None, None]


def drifting(way: tuple[float, float], frames: int = 8) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    places = [(16 + way[0] * (t / (frames - 1) - 0.5), 16 + way[1] * (t / (frames - 1) - 0.5)) for t in range(frames)]
    return torch.stack([torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 18) for a, b in places])


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("frames", [2, 8, 15])
def test_motion_is_the_direction_of_the_drift(motion: str, frames: int) -> None:
    step = MOTIONS[motion]
    assert motion_of(drifting((9.0 * step[0], 9.0 * step[1]), frames)) == motion


def test_motion_is_none_where_there_is_none() -> None:
    assert motion_of(drifting((0.0, 0.0))) is None
    assert motion_of(drifting((2.0, 0.0))) is None
    assert motion_of(drifting((8.0, 8.0))) is None
    assert motion_of(drifting((9.0, 0.0), frames=2)[:1]) is None
    assert motion_of(torch.zeros(8, 32, 32)) is None


def test_video_of_a_still_image_has_a_digit_but_no_motion(video_judge: VideoJudge) -> None:
    still = draw(Modality.IMAGE, Concept(6, "cyan"), "test", np.random.default_rng(2))
    medium = Media(Modality.VIDEO, np.repeat(still.array[None], 5, axis=0), rate=8.0)
    assert video_judge(medium) == {"digit": 6, "colour": "cyan", "motion": None}
    blank = Media(Modality.VIDEO, np.zeros((5, 32, 32, 3), np.uint8), rate=8.0)
    assert video_judge(blank) == {"digit": None, "colour": None, "motion": None}


@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.6, 1.6))
def test_normalised_ink_has_one_centre_and_one_size(dx: float, dy: float, scale: float) -> None:
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    ellipse = torch.exp(-(((x - 20 - dx) / 5) ** 2 + ((y - 24 - dy) / 3) ** 2) / scale**2)
    centre, radius = moments(normalised(ellipse[None])[:, 0])
    assert torch.allclose(centre, torch.full((1, 2), (SIDE - 1) / 2), atol=0.15)
    assert 6.5 < float(radius) < 7.6


@given(st.sampled_from(sorted(KEYPAD)), st.floats(0.001, 2.0), st.sampled_from([8_000.0, 16_000.0, 44_100.0]))
def test_key_is_heard_at_any_level_and_rate(digit: int, level: float, rate: float) -> None:
    samples = tones(*KEYPAD[digit], rate=rate) * level
    assert AudioJudge()(sound(samples, rate)) == {"digit": digit}
    assert tone_shares(samples, rate).sum() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(8000),
        np.random.default_rng(0).normal(0, 0.1, 8000),
        tones(770.0),
        tones(*KEYPAD[1], *KEYPAD[9]),
        tones(941.0, 1209.0),
        tones(697 * 1.015, 1209 * 1.015),
        tones(770.0, 1336.0, 300.0, 2000.0, 3000.0),
        np.full(300, 0.1),
    ],
    ids=["silence", "noise", "one tone", "two keys", "star key", "off pitch", "drowned", "short constant"],
)
def test_no_digit_is_heard_in(samples: np.ndarray) -> None:
    assert AudioJudge()(sound(samples)) == {"digit": None}


@pytest.mark.parametrize(
    ("answer", "digit", "colour", "motion"),
    [
        ("A red seven, moving left.", 7, "red", "left"),
        ("It shows 7", 7, None, None),
        ("SEVEN; yes, seven (7)", 7, None, None),
        ("seven or eight", None, None, None),
        ("twenty-seventh reddish uprightness", None, None, None),
        ("17", None, None, None),
        ("red and blue nines", None, None, None),
        ("it goes upwards, up", None, None, "up"),
        ("", None, None, None),
    ],
)
def test_text_judge_reads_words(answer: str, digit: int | None, colour: str | None, motion: str | None) -> None:
    assert TextJudge()(answer) == {"digit": digit, "colour": colour, "motion": motion}


@given(st.integers(0, 9), st.sampled_from([None, *COLOURS]), st.sampled_from([None, *MOTIONS]))
def test_text_judge_undoes_captions(digit: int, colour: str | None, motion: str | None) -> None:
    reading = TextJudge()(Concept(digit, colour, motion).caption(Modality.VIDEO).capitalize() + "!")
    assert reading == {"digit": digit, "colour": colour, "motion": motion}
    assert TextJudge()(str(digit)) == TextJudge()(DIGITS[digit])


def test_a_medium_of_another_modality_is_refused(image_judge: ImageJudge) -> None:
    tone = sound(tones(*KEYPAD[1]))
    with pytest.raises(ValueError, match=r"found audio; ImageJudge reads image"):
        image_judge.many([tone])


def test_missing_and_foreign_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match=r"digits\.safetensors is missing"):
        ImageJudge(tmp_path)
    save_file({"weight": torch.zeros(2)}, tmp_path / FILE)
    with pytest.raises(ValueError, match=r"doesn't hold the digit reader's weights"):
        VideoJudge(tmp_path)
    (tmp_path / FILE).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"doesn't hold the digit reader's weights"):
        VideoJudge(tmp_path)


def test_training_is_reproducible(tmp_path: Path) -> None:
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(tmp_path / folder, effort=0.003, seed=seed)
    first, again, other = ((tmp_path / folder / FILE).read_bytes() for folder in "abc")
    assert first == again != other
    assert ImageJudge(tmp_path / "a").attributes == ("digit", "colour")
