"""Sound as users bring it: other containers, cut files, floats beyond 1, channels that cancel, broken frames."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from data.made_media import encode, tone

from isthmus.data.errors import DataError, Fault
from isthmus.data.media.audio.files import read_audio
from isthmus.data.media.files import read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.remarks import Remark, remarks
from isthmus.request import Request
from isthmus.types import Media, Modality

LIMITS = MediaLimits()
Array = np.ndarray[Any, Any]


def alike(found: Media, wanted: Array, rate: float = 48000) -> bool:
    """The same tone, to what a lossy codec and its padding change."""
    middle = found.array[12_000:36_000]
    spectrum = np.abs(np.fft.rfft(middle))
    loudness = np.sqrt(np.mean(middle**2)) / np.sqrt(np.mean(wanted**2))
    return found.rate == rate and abs(int(spectrum.argmax()) - 220) <= 1 and 0.9 < float(loudness) < 1.1


@pytest.mark.parametrize(
    ("name", "codec", "film", "container"),
    [
        ("a.m4a", "aac", False, "ipod"),
        ("a.aac", "aac", False, "adts"),
        ("a.webm", "libopus", False, None),
        ("a.mka", "pcm_s16le", False, "matroska"),
        ("a.mp4", "aac", True, None),
        ("a.mkv", "pcm_s16le", True, None),
        ("a.mov", "aac", True, None),
        ("a.avi", "pcm_s16le", True, None),
        ("a.ts", "aac", True, None),
        ("renamed.mp3", "aac", False, "ipod"),
    ],
)
def test_sound_of_other_containers_and_of_films_is_read(
    tmp_path: Path, name: str, codec: str, film: bool, container: str | None
) -> None:
    encode(tmp_path / name, codec, tone(), film, container)
    found = read_audio(tmp_path / name, LIMITS)
    assert alike(found, tone()) and abs(len(found.array) - 48000) <= 2500
    if film:
        return
    with pytest.raises(DataError, match=r"seconds; expected at most 0\.5"):
        read_audio(tmp_path / name, MediaLimits(seconds=0.5))


def test_a_tag_before_a_bare_stream(tmp_path: Path) -> None:
    """As broadcasters write it, and as speech is served."""
    encode(tmp_path / "bare.aac", "aac", tone(), container="adts")
    bare = (tmp_path / "bare.aac").read_bytes()
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x03" + bytes(131)  # its size, in seven bits a byte
    (tmp_path / "a.aac").write_bytes(tag + bare)
    assert np.array_equal(read_audio(tmp_path / "a.aac", LIMITS).array, read_audio(tmp_path / "bare.aac", LIMITS).array)
    for cut in (5, 10, 100):
        (tmp_path / "a.aac").write_bytes((tag + bare)[:cut])
        with pytest.raises(DataError, match="no readable audio"):
            read_audio(tmp_path / "a.aac", LIMITS)


def test_a_film_without_sound_says_so(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as opened:
        picture: Any = opened.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        opened.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
        opened.mux(picture.encode())
    with pytest.raises(DataError, match="it holds no sound"):
        read_audio(tmp_path / "a.mp4", LIMITS)


@pytest.mark.parametrize(
    "name", ["a.m4a", "a.mka", "a.wav", "a.aiff", "a.w64", "a.au", "a.caf", "a.flac", "a.mp3", "a.ogg"]
)
def test_half_a_file_is_an_error_in_every_container(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)
    if name in ("a.m4a", "a.mka"):
        encode(tmp_path / name, "aac" if name == "a.m4a" else "pcm_s16le", noise)
    else:
        soundfile.write(tmp_path / name, noise, 48000)
    assert abs(len(read_audio(tmp_path / name, LIMITS).array) - 48000) < 2500
    whole = (tmp_path / name).read_bytes()
    for share in (0.5, 0.85):
        (tmp_path / name).write_bytes(whole[: round(share * len(whole))])
        with pytest.raises(DataError, match=f"{name}: found no readable audio") as caught:
            read_audio(tmp_path / name, LIMITS)
        assert caught.value.fault is Fault.CORRUPT


def wav(declared: int, held: int = 9600) -> bytes:
    """A WAV of 16 bits that declares so many bytes, and holds others."""
    data = (tone(held / 2 / 16000, 16000) * 32767).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    whole = struct.pack("<4sI4s", b"RIFF", min(declared + 36, 0xFFFFFFFF), b"WAVE") + form
    return whole + struct.pack("<4sI", b"data", declared) + data


@pytest.mark.parametrize("declared", [9600, 9602, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_what_a_pipe_could_not_know_is_no_cut(tmp_path: Path, declared: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(declared))
    assert len(read_audio(tmp_path / "a.wav", LIMITS).array) == 4800


@pytest.mark.parametrize(("declared", "said"), [(28800, "9636 of 28836 bytes are there"), (0, "declares no samples")])
def test_a_wav_that_was_not_finished_is_an_error(tmp_path: Path, declared: int, said: str) -> None:
    (tmp_path / "a.wav").write_bytes(wav(declared))
    with pytest.raises(DataError, match=said):
        read_audio(tmp_path / "a.wav", LIMITS)


@pytest.mark.parametrize("peak", [1.25, 20_000.0])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_beyond_one_are_scaled_and_told(tmp_path: Path, peak: float, subtype: str) -> None:
    wave = tone() * 2 / tone().max() / 2
    soundfile.write(tmp_path / "a.wav", wave.astype(np.float64) * peak, 48000, subtype=subtype)
    with remarks() as found:
        media = read_audio(tmp_path / "a.wav", LIMITS)
    assert np.allclose(media.array, wave, atol=1e-6)
    assert [kind for kind, _ in found] == [Remark.LOUD_AUDIO] and f"{peak:g}" in found[0][1]


@pytest.mark.parametrize(("right", "told"), [(-1.0, True), (-0.97, True), (0.0, False), (1.0, False), (-0.5, False)])
def test_channels_that_cancel_are_told(tmp_path: Path, right: float, told: bool) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([tone(), tone() * right], axis=1), 48000)
    with remarks() as found:
        read_audio(tmp_path / "a.flac", LIMITS)
    assert [kind for kind, _ in found] == [Remark.OPPOSITE_CHANNELS] * told


def test_one_of_eight_channels_is_no_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.pad(tone()[:, None], ((0, 0), (3, 4))), 48000)
    with remarks() as found:
        media = read_audio(tmp_path / "a.wav", LIMITS)
    assert np.abs(media.array - tone() / 8).max() < 1e-4 and not found


@pytest.mark.parametrize(("size", "fill"), [(30, 0xFF), (300, 0xAA), (300, 0xFF)])
def test_a_broken_frame_of_an_mp3_is_read_around_and_counted(tmp_path: Path, size: int, fill: int) -> None:
    stream = BytesIO()
    soundfile.write(stream, tone(10.0, 16000), 16000, format="MP3")
    data = bytearray(stream.getvalue())
    middle = len(data) // 2
    data[middle : middle + size] = bytes([fill]) * size
    (tmp_path / "a.mp3").write_bytes(data)
    with remarks() as found:
        media = read_audio(tmp_path / "a.mp3", LIMITS)
    assert 0.94 * 160_000 < len(media.array) < 160_000
    assert [kind for kind, _ in found] == [Remark.BROKEN_FRAMES]
    with pytest.raises(DataError, match="more than 0 of its frames are broken"):
        read_audio(tmp_path / "a.mp3", MediaLimits(broken_frames=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    wave = np.stack([tone(), tone()], axis=1)
    wave[1000, 1] = bad
    soundfile.write(tmp_path / "a.wav", wave, 48000, subtype="FLOAT")
    with pytest.raises(DataError, match="samples that aren't finite"):
        read_audio(tmp_path / "a.wav", LIMITS)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.m4a", "a.webm", "a.mka"])
def test_of_a_long_recording_only_its_beginning_is_decoded(tmp_path: Path, name: str) -> None:
    path, waves = tmp_path / name, tone(20.0)
    if name.endswith(("m4a", "webm", "mka")):
        encode(path, {"m4a": "aac", "webm": "libopus", "mka": "pcm_s16le"}[path.suffix[1:]], waves)
    else:
        soundfile.write(path, waves, 48000)
    whole = read_media(path, Modality.AUDIO, sample_rate=16000)
    found = read_media(path, Modality.AUDIO, sample_rate=16000, request=Request(seconds=2.0))
    assert 3 * 16000 <= len(found.array) < 3.2 * 16000
    assert abs(found.frame_count - len(whole.array)) <= 0.1 * 16000
    np.testing.assert_allclose(found.array[: 2 * 16000], whole.array[: 2 * 16000], atol=1e-5)
    limits = MediaLimits(seconds=10)
    assert read_media(path, Modality.AUDIO, limits, request=Request(seconds=2.0)).frame_count > 10 * 48000
    with pytest.raises(DataError, match="seconds"):
        read_media(path, Modality.AUDIO, limits)


def test_float_samples_are_divided_by_the_largest_of_the_whole_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([0.5 * tone(5.0), [4.0]]), 48000, subtype="FLOAT")
    found = read_media(path, Modality.AUDIO, request=Request(seconds=1.0))
    assert len(found.array) == found.frame_count == 5 * 48000 + 1
    assert np.abs(found.array[:48000]).max() < 0.2


def test_a_short_recording_is_whole_whatever_is_asked_for(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.5), 48000)
    found = read_media(tmp_path / "a.wav", Modality.AUDIO, request=Request(seconds=30.0))
    assert len(found.array) == 24000 and found.total is None
