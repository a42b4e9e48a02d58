"""Made media beside their own references: PSNR, SSIM, SI-SDR and STOI against plain computations and known answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored_answers import answer, clip, picture, sound

from isthmus.data.conversations.schema import MediumItem, Message
from isthmus.data.media.files import save_media
from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.paired import PictureLikeness, SoundLikeness
from isthmus.evaluation.metrics.paired.pictures import MOST
from isthmus.types import Media, Modality

ONE = Processes()


def test_pictures_against_plain_psnr_and_known_answers(tmp_path: Path) -> None:
    answers = [
        answer(tmp_path, 0, [picture(0)], [picture(1)]),
        answer(tmp_path, 1, [picture(2)], [picture(2)]),
        answer(tmp_path, 2, [], [picture(3)]),
        answer(tmp_path, 3, [picture(4)]),
    ]
    figures = PictureLikeness().measure(answers, ONE)
    noise = picture(0).array / 255 - picture(1).array / 255
    scores = figures["image/psnr"].scores
    assert scores is not None
    assert scores == {"set/0": pytest.approx(-10 * np.log10((noise**2).mean()), abs=1e-4), "set/1": 100.0}
    like = figures["image/ssim"]
    assert like.scores is not None and like.scores["set/1"] == pytest.approx(1) and abs(like.scores["set/0"]) < 0.2
    assert like.n == 2 and like.interval is not None and like.protocol["antialias"] is True


def test_a_reference_of_another_size_is_resized(tmp_path: Path) -> None:
    flat = Media(Modality.IMAGE, np.full((40, 24, 3), 200, np.uint8))
    small = Media(Modality.IMAGE, np.full((16, 16, 3), 200, np.uint8))
    assert PictureLikeness().measure([answer(tmp_path, 0, [small], [flat])], ONE)["image/psnr"].value == 100


def test_films_are_compared_frame_by_frame(tmp_path: Path) -> None:
    whole = clip(0, frames=7)
    third = replace(whole, array=whole.array[::3])
    figures = PictureLikeness("video").measure([answer(tmp_path, 0, [third], [whole])], ONE)
    assert figures["video/psnr"].value == 100 and figures["video/ssim"].value == pytest.approx(1)


def test_sounds_against_known_answers(tmp_path: Path) -> None:
    clean, noise = sound(0, seconds=1.0), sound(1, seconds=1.0)
    mixed = replace(clean, array=clean.array * 0.5 + noise.array * 0.05)
    answers = [
        answer(tmp_path, 0, [mixed], [clean]),
        answer(tmp_path, 1, [noise], [clean]),
        answer(tmp_path, 2, [clean], [clean]),
    ]
    figures = SoundLikeness().measure(answers, ONE)
    ratios, heard = figures["audio/si_sdr"].scores, figures["audio/stoi"].scores
    assert ratios is not None and heard is not None
    assert ratios["set/0"] == pytest.approx(20, abs=0.5)  # a tenth of the amplitude, whatever the scale
    assert ratios["set/1"] < -20 and ratios["set/2"] > 60
    assert heard["set/2"] == pytest.approx(1, abs=1e-4) and heard["set/1"] < 0.3 < 0.9 < heard["set/0"]
    assert list(SoundLikeness(stoi=False).measure(answers[:1], ONE)) == ["audio/si_sdr"]


def test_silence_is_not_better_than_noise(tmp_path: Path) -> None:
    tone = sound(0, seconds=1.0)
    mute = replace(tone, array=np.zeros_like(tone.array))
    sides = [([mute], [tone]), ([tone], [mute]), ([mute], [mute])]
    answers = [answer(tmp_path, number, *both) for number, both in enumerate(sides)]
    scores = SoundLikeness(stoi=False).measure(answers, ONE)["audio/si_sdr"].scores
    assert scores == {"set/0": -100.0, "set/1": -100.0, "set/2": 100.0}


def test_rates_and_lengths_may_differ(tmp_path: Path) -> None:
    times = np.arange(16000) / 16000
    tone = Media(Modality.AUDIO, (0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32), 16000)
    fewer = Media(Modality.AUDIO, tone.array[::2][:7000].copy(), 8000)
    figure = SoundLikeness(stoi=False).measure([answer(tmp_path, 0, [fewer], [tone])], ONE)["audio/si_sdr"]
    assert figure.value > 25 and figure.protocol["resampled"].startswith("soxr ")


def test_what_has_no_pair_has_no_figure(tmp_path: Path) -> None:
    lone = [answer(tmp_path, 0, [picture(0)])]
    assert PictureLikeness().measure(lone, ONE) == {} and SoundLikeness().measure(lone, ONE) == {}


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="modality: found 'audio'; expected image or video"):
        PictureLikeness("audio")
    with pytest.raises(ValueError, match="set/0: found a picture of 4 x 4; expected at least 6"):
        PictureLikeness().measure([answer(tmp_path, 0, [picture(0, 4)], [picture(1, 4)])], ONE)


def test_a_long_reference_is_read_where_it_is_compared(tmp_path: Path) -> None:
    """The reference has more frames than the limits allow to be decoded."""
    film = (np.arange(4801) // 20).astype(np.uint8).repeat(16 * 16 * 3).reshape(-1, 16, 16, 3)
    made = Media(Modality.VIDEO, film[[0, 1200, 2400, 3600, 4800]], 5.0)
    own = answer(tmp_path, 0, [made], [made])
    path = save_media(Media(Modality.VIDEO, film, 50.0), tmp_path / "film.mkv")
    own = replace(own, expected=Message("assistant", (MediumItem(Modality.VIDEO, path),)))
    assert PictureLikeness("video").measure([own], ONE)["video/psnr"].value == MOST
