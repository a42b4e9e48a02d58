"""Videos as files have them: asked for by time, in every container, turned, mirrored, in wide pixels, cut, too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from isthmus.cache.media import content_key
from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media, save_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.videos import shown_frames
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.video_frames import seen_frames, video_views
from isthmus.encoders.vision.frames_encoder import frame_indices
from isthmus.generators.pixels import clip_of, clip_request
from isthmus.request import Request
from isthmus.types import Media, Modality

Array = np.ndarray[Any, Any]
VIDEO = Modality.VIDEO


def shades(frames: int, height: int = 48, width: int = 64) -> Array:
    """Frame k says k by its grey, brighter below and to the right, so that turning shows."""
    rows, columns = np.mgrid[:height, :width]
    corner = 40 * (rows > height // 2) + 20 * (columns > width // 2)
    return (np.arange(frames)[:, None, None, None] * 5 + corner[None, ..., None]).repeat(3, -1).astype(np.uint8)


def write(
    path: Path,
    frames: Array,
    rate: Fraction | int = 8,
    codec: str = "libx264",
    layout: str = "yuv420p",
    times: Sequence[int] | None = None,
    gop: int = 6,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    sound: bool = False,
) -> Path:
    """Frames, with reordered ones between keyframes; ``times``, in milliseconds, where they aren't even."""
    with av.open(str(path), "w", options=container or {}) as opened:
        stream: Any = opened.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], layout
        if codec not in ("gif", "ffv1"):
            stream.gop_size = gop
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
    return path


def remux(source: Path, target: Path, shift: int = 0, turn: int | None = None, mirrored: bool = False) -> Path:
    """The same packets, ``shift`` frames earlier (what stands before 0 is cut by an edit list), or turned."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        own = given.streams.video[0]
        stream: Any = made.add_stream_from_template(own)
        if turn is not None or mirrored:
            stream.set_display_rotation(turn or 0, hflip=mirrored)
        step = round(1 / (own.average_rate * own.time_base))
        for packet in given.demux(own):
            if packet.dts is not None and packet.pts is not None:
                packet.stream = stream
                packet.pts -= shift * step
                packet.dts -= shift * step
                made.mux(packet)
    return target


def evenly(count: int, total: int, rate: float) -> list[int]:
    return frame_indices(total, count).tolist()


def asked(path: Path, count: int, side: int | None = None, limits: MediaLimits | None = None) -> Media:
    return read_media(path, VIDEO, limits or MediaLimits(), request=Request(partial(evenly, count), side))


def seen(medium: Media, count: int) -> Array:
    return medium.array[medium.rows(evenly(count, medium.frame_count, medium.rate or 0))]


WRITTEN: dict[str, Callable[[Path], Path]] = {
    "a.mp4": lambda path: write(path, shades(40)),
    "open.mp4": lambda path: write(path, shades(40), options={"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}),
    "fragmented.mp4": lambda path: write(path, shades(40), container={"movflags": "frag_keyframe+empty_moov"}),
    "a.mkv": lambda path: write(path, shades(40), rate=Fraction(30000, 1001)),
    "vp9.webm": lambda path: write(path, shades(40), codec="libvpx-vp9", options={"cpu-used": "8"}),
    "live.webm": lambda path: write(path, shades(40), codec="libvpx", container={"live": "1"}),
    "h265.mp4": lambda path: write(path, shades(40), codec="libx265", options={"x265-params": "log-level=none"}),
    "mpeg4.avi": lambda path: write(path, shades(40), codec="mpeg4", options={"bf": "2"}),
    "h264.avi": lambda path: write(path, shades(40)),
    "a.ts": lambda path: write(path, shades(40), rate=25),
    "a.flv": lambda path: write(path, shades(40)),
    "a.mpg": lambda path: write(path, shades(40), rate=25, codec="mpeg1video", options={"bf": "2"}),
    "a.gif": lambda path: write(path, shades(40), rate=10, codec="gif", layout="rgb8"),
    "a.webp": lambda path: animation(path, [100] * 40),
    "a.png": lambda path: animation(path, [100] * 40),
}


def animation(path: Path, milliseconds: Sequence[int]) -> Path:
    first, *rest = [Image.fromarray(picture) for picture in shades(len(milliseconds))]
    first.save(path, save_all=True, append_images=rest, duration=list(milliseconds), lossless=True)
    return path


@pytest.fixture(scope="module", params=WRITTEN)
def even(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a constant frame rate, in each container."""
    return WRITTEN[request.param](tmp_path_factory.mktemp("even") / request.param)


def test_what_is_asked_for_is_what_the_whole_shows(even: Path) -> None:
    whole = read_media(even, VIDEO)
    assert whole.times is None and len(whole.array) == 40
    for count in (1, 3, 5, 8, 39, 40, 60):
        some = asked(even, count)
        assert some.rate == whole.rate and some.frame_count == 40 and len(some.array) == min(count, 40)
        assert np.array_equal(seen(some, count), seen(whole, count))


def test_experts_see_the_same_of_some_frames_as_of_all(even: Path) -> None:
    config = ImageBindConfig(modalities=("vision",), image_size=28)
    whole = read_media(even, VIDEO)
    some = read_media(even, VIDEO, request=Request(partial(seen_frames, config)))
    assert np.array_equal(video_views(some, config), video_views(whole, config))
    clip = read_media(even, VIDEO, request=clip_request(7, 32, 32))
    assert np.array_equal(clip_of(clip, 7, 32, 32), clip_of(whole, 7, 32, 32))


def test_uneven_frames_are_found_by_their_times(tmp_path: Path) -> None:
    times = [*range(0, 1000, 100), 5000, 9000]
    # MP4 sums up decoding times, which a reordered last frame doesn't reach.
    paths = [
        write(tmp_path / "a.mp4", shades(12), times=times, options={"bf": "0"}),
        write(tmp_path / "a.mkv", shades(12), times=times),
    ]
    for path in [*paths, animation(tmp_path / "a.webp", [100] * 9 + [4100, 4000, 1000])]:
        whole, some = read_media(path, VIDEO), asked(path, 5)
        assert whole.times is not None and np.allclose(whole.times, np.array(times) / 1000, atol=0.002)
        # A quarter of ten seconds further each: nothing moves from 0.9 s to 5 s.
        shown = seen(some, 5)[:, 0, 0, 0] / 5
        assert shown.round().tolist() in ([0, 9, 9, 10, 11], [0, 9, 9, 10, 10])
        assert np.array_equal(seen(some, 5), seen(whole, 5))


def test_far_frames_are_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0
    ticks = shown_frames._ticks

    def counted(frame: Any) -> int:
        nonlocal decoded
        decoded += 1
        return ticks(frame)

    path = write(tmp_path / "a.mp4", shades(50).repeat(8, axis=0), gop=20)
    monkeypatch.setattr(shown_frames, "_ticks", counted)
    assert len(asked(path, 3).array) == 3
    assert decoded < 200  # of 400 frames, each of which is looked at twice


def test_limits_hold_what_is_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shades(40))
    limits = MediaLimits(seconds=1, frames=5, bytes=5 * 3 * 48 * 64)
    assert path.stat().st_size < limits.bytes
    with pytest.raises(DataError, match="found 5 seconds; expected at most 1"):
        read_media(path, VIDEO, limits)
    assert len(asked(path, 5, limits=limits).array) == 5
    with pytest.raises(DataError, match="found 6 frames; expected at most 5"):
        asked(path, 6, limits=limits)
    assert len(asked(path, 2, limits=MediaLimits(bytes=2 * 3 * 48 * 64)).array) == 2
    with pytest.raises(DataError, match="bytes; expected at most"):
        asked(path, 2, limits=MediaLimits(bytes=2 * 3 * 48 * 64 - 1))


def test_a_cache_knows_a_file_of_any_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shades(4))
    keys = {content_key(medium, MediaLimits(bytes=9)) for medium in (path, asked(path, 2), asked(path, 3))}
    assert len(keys) == 3


def test_large_frames_are_shrunk_to_what_is_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shades(4, 96, 160))
    assert asked(path, 2, side=24).array.shape == (2, 96, 160, 3)
    small = asked(path, 2, side=12).array
    assert small.shape == (2, 48, 80, 3)
    halved = asked(path, 2).array.reshape(2, 48, 2, 80, 2, 3).mean((2, 4))
    assert np.abs(small - halved).mean() < 1.5


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_whole_display_matrix_counts(tmp_path: Path, turn: int, mirrored: bool) -> None:
    plain = write(tmp_path / "plain.mkv", shades(2), codec="libx264rgb", layout="rgb24", options={"crf": "0"})
    mp4 = write(tmp_path / "a.mp4", shades(2))
    shown = read_media(remux(mp4, tmp_path / "b.mp4", turn=turn, mirrored=mirrored), VIDEO).array
    assert np.array_equal(read_media(plain, VIDEO).array, shades(2))
    expected = read_media(mp4, VIDEO).array
    expected = np.rot90(expected, round(turn / 90), axes=(1, 2))  # what is mirrored is the turned picture
    expected = expected[:, :, ::-1] if mirrored else expected
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(2), 128), (Fraction(1, 2), 32), (Fraction(1), 64)])
def test_pixels_are_square(tmp_path: Path, aspect: Fraction, width: int) -> None:
    path = write(tmp_path / "a.mp4", shades(3), aspect=aspect)
    assert read_media(path, VIDEO).array.shape == (3, 48, width, 3)
    assert asked(path, 2).array.shape == (2, 48, width, 3)


def test_edit_lists_cut_the_beginning(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", shades(12))
    cut = remux(whole, tmp_path / "b.mp4", shift=4)
    expected = read_media(whole, VIDEO).array[4:]
    assert np.array_equal(read_media(cut, VIDEO).array, expected)
    some = asked(cut, 3)
    assert some.frame_count == 8 and np.array_equal(some.array, expected[[0, 3, 7]])


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_clear_pixels_are_white(tmp_path: Path, name: str) -> None:
    pictures = [Image.new("RGBA", (24, 24), (255, 0, 0, 0)) for _ in range(3)]
    for number, picture in enumerate(pictures):
        picture.paste((0, 0, 0, 255), (0, 0, 12, 6 + 6 * number))
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    for medium in (read_media(tmp_path / name, VIDEO), asked(tmp_path / name, 2)):
        assert (medium.array[:, -1, -1] == 255).all() and (medium.array[:, 0, 0] == 0).all()


def test_a_half_file_is_refused_when_its_end_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", shades(80), container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.mp4: found no readable video") as caught:
        asked(path, 5)
    assert caught.value.fault is Fault.CORRUPT


def test_a_cover_is_no_video_and_sound_alone_is_told(tmp_path: Path) -> None:
    wave = (0.3 * np.sin(np.arange(16000) / 20)).astype(np.float32)[None]
    for name, cover in (("sound.mp4", False), ("cover.mp4", True)):
        with av.open(str(tmp_path / name), "w", format="mp4") as opened:
            sound: Any = opened.add_stream("aac", rate=16000)
            picture: Any = opened.add_stream("mjpeg", rate=1) if cover else None
            if cover:
                picture.height, picture.width, picture.pix_fmt = 16, 16, "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate = 16000
            opened.mux(sound.encode(frame))
            opened.mux(sound.encode())
            if cover:
                still = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
                opened.mux(picture.encode(still))
                opened.mux(picture.encode())
        held = "only sound and a cover picture" if cover else "only sound"
        with pytest.raises(DataError, match=rf"it holds {held}\).* Fix: give it as audio"):
            read_media(tmp_path / name, VIDEO)


def test_a_saved_selection_lasts_as_long_as_the_video(tmp_path: Path) -> None:
    some = asked(write(tmp_path / "a.mp4", shades(40)), 5)
    assert some.pace == 1.0
    again = read_media(save_media(some, tmp_path / "b.mkv"), VIDEO)
    assert again.rate == 1.0 and np.array_equal(again.array, some.array)


def test_a_file_that_may_not_be_opened_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", shades(2))

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DataError, match=r"a\.mp4: .*Permission denied") as caught:
        read_media(path, VIDEO)
    assert caught.value.fault is Fault.PATH


@pytest.mark.parametrize("name", ["a.mp4", "fragmented.mp4", "a.mkv", "a.ts", "a.flv", "h264.avi", "a.gif", "a.webp"])
def test_broken_bytes_are_read_around_or_refused_in_words(tmp_path: Path, name: str) -> None:
    whole = WRITTEN[name](tmp_path / name).read_bytes()
    random = np.random.default_rng(len(name))
    limits = MediaLimits(pixels=1_000_000, bytes=50_000_000)
    for _ in range(12):
        broken = bytearray(whole)
        for place in random.integers(0, len(whole), 4):
            broken[place] = random.integers(256)
        (tmp_path / name).write_bytes(broken)
        try:
            assert 1 <= len(asked(tmp_path / name, 5, limits=limits).array) <= 5
        except DataError as error:
            assert name in str(error)


def test_raw_frames_are_read_whole_and_as_asked_for(tmp_path: Path) -> None:
    """YUV4MPEG2: a line of text, then each frame's planes, here of greys alone."""
    greys = (16 + 20 * np.arange(9, dtype=np.uint8))[:, None, None].repeat(48, 1).repeat(64, 2)
    frames = b"".join(b"FRAME\n" + grey.tobytes() + b"\x80" * (2 * 24 * 32) for grey in greys)
    path = tmp_path / "raw.y4m"
    path.write_bytes(b"YUV4MPEG2 W64 H48 F8:1 Ip A1:1 C420jpeg\n" + frames)
    whole = read_media(path, VIDEO)
    assert whole.array.shape == (9, 48, 64, 3) and whole.rate == 8
    assert np.array_equal(seen(asked(path, 3), 3), seen(whole, 3))
    with pytest.raises(DataError, match=r"raw.y4m: found \d frames; expected at most 5"):
        read_media(path, VIDEO, MediaLimits(frames=5))
