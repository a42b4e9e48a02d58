"""Media files: round trips, caps held against headers, hostile paths, and corrupt files of every kind."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media, save_media
from isthmus.data.media.images import files as image_files
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.videos import decoding as decoded_video
from isthmus.types import Media, Modality


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def smooth_video(frames: int = 6, height: int = 32, width: int = 48) -> Media:
    ramp = np.linspace(0, 200, width)[None, None, :, None] + np.zeros((frames, height, 1, 3))
    ramp += np.arange(frames)[:, None, None, None] * np.array([8.0, 4.0, 0.0])
    return Media(Modality.VIDEO, ramp.astype(np.uint8), rate=8.0)


def sine(seconds: float = 0.5, rate: int = 16000) -> Media:
    time = np.arange(round(seconds * rate)) / rate
    return Media(Modality.AUDIO, (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), rate=float(rate))


def cloud(columns: int = 6) -> Media:
    return Media(Modality.POINTS, np.random.default_rng(0).random((50, columns), dtype=np.float32))


def test_images_come_back_as_they_were(tmp_path: Path) -> None:
    media = Media(Modality.IMAGE, noise(7, 5, 3))
    read = read_media(save_media(media, tmp_path / "deep" / "a.png"), Modality.IMAGE)
    assert np.array_equal(read.array, media.array) and read.source.endswith("a.png")


@pytest.mark.parametrize("ending", [".mkv", ".mp4", ".gif"])
def test_videos_come_back(tmp_path: Path, ending: str) -> None:
    media = smooth_video()
    read = read_media(save_media(media, tmp_path / f"a{ending}"), Modality.VIDEO)
    assert read.array.shape == media.array.shape
    assert read.rate == pytest.approx(8.0, abs=0.35)  # a GIF counts in hundredths of a second
    # Lossless; 8-bit luma and halved chroma; 3-3-2 bits of colour.
    tolerance = {".mkv": 0.0, ".mp4": 3.0, ".gif": 24.0}[ending]
    assert np.abs(read.array.astype(int) - media.array.astype(int)).mean() <= tolerance


def test_odd_video_sizes_get_an_edge_doubled(tmp_path: Path) -> None:
    media = smooth_video(height=31, width=47)
    read = read_media(save_media(media, tmp_path / "a.mp4"), Modality.VIDEO)
    assert read.array.shape == (6, 32, 48, 3)
    assert np.array_equal(read_media(save_media(media, tmp_path / "a.mkv"), Modality.VIDEO).array, media.array)


def test_audio_comes_back_within_16_bits(tmp_path: Path) -> None:
    read = read_media(save_media(sine(), tmp_path / "a.wav"), Modality.AUDIO)
    assert read.rate == 16000 and np.abs(read.array - sine().array).max() <= 1 / 32767


def test_audio_is_resampled_when_asked(tmp_path: Path) -> None:
    path = save_media(sine(rate=48000), tmp_path / "a.wav")
    read = read_media(path, Modality.AUDIO, sample_rate=16000)
    assert read.rate == 16000 and len(read.array) == 8000
    assert np.abs(read.array[500:-500] - sine().array[500:-500]).max() < 1e-3


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([sine().array, np.zeros(8000)], axis=1), 16000)
    read = read_media(tmp_path / "a.flac", Modality.AUDIO)
    assert np.abs(read.array - sine().array / 2).max() < 1e-4


@pytest.mark.parametrize("columns", [3, 6])
def test_points_come_back_as_they_were(tmp_path: Path, columns: int) -> None:
    media = cloud(columns)
    assert np.array_equal(read_media(save_media(media, tmp_path / "a.npy"), Modality.POINTS).array, media.array)
    np.savez_compressed(tmp_path / "b.npz", points=media.array)
    assert np.array_equal(read_media(tmp_path / "b.npz", Modality.POINTS).array, media.array)


def test_npz_colours_of_whole_numbers_are_scaled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", xyz=cloud(3).array.astype(np.float64), rgb=noise(50, 3))
    read = read_media(tmp_path / "a.npz", Modality.POINTS).array
    assert np.array_equal(read[:, :3], cloud(3).array) and np.allclose(read[:, 3:], noise(50, 3) / 255)


PLY_HEADER = (
    "ply\nformat {format} 1.0\ncomment made by hand\nelement vertex {count}\n"
    "property float x\nproperty float y\nproperty float z\n"
    "property uchar red\nproperty uchar green\nproperty uchar blue\nproperty float extra\n"
    "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
)


def ply(format: str, count: int = 50, declared: int | None = None) -> bytes:
    header = PLY_HEADER.format(format=format, count=count if declared is None else declared).encode()
    xyz, rgb = cloud(3).array[:count], noise(50, 3)[:count]
    if format == "ascii":
        rows = [" ".join(map(repr, [*map(float, a), *map(int, b), 0.5])) for a, b in zip(xyz, rgb, strict=True)]
        return header + "\n".join([*rows, "3 0 1 2", ""]).encode()
    order = "<" if "little" in format else ">"
    body = b"".join(struct.pack(f"{order}fffBBBf", *a, *b, 0.5) for a, b in zip(xyz, rgb, strict=True))
    return header + body + struct.pack(f"{order}Biii", 3, 0, 1, 2)


@pytest.mark.parametrize("format", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_of_every_byte_order_is_read(tmp_path: Path, format: str) -> None:
    (tmp_path / "a.ply").write_bytes(ply(format))
    read = read_media(tmp_path / "a.ply", Modality.POINTS).array
    assert np.allclose(read[:, :3], cloud(3).array) and np.allclose(read[:, 3:], noise(50, 3) / 255)


def test_images_are_turned_upright_and_sixteen_bits_scaled(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: what the camera calls the top is the left
    Image.fromarray(noise(4, 6, 3)).save(tmp_path / "turned.png", exif=exif)
    turned = read_media(tmp_path / "turned.png", Modality.IMAGE)
    assert np.array_equal(turned.array, np.rot90(noise(4, 6, 3), -1))
    grey = (np.arange(24, dtype=np.uint16) * 2700).reshape(4, 6)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    deep = read_media(tmp_path / "deep.png", Modality.IMAGE)
    assert np.array_equal(deep.array[..., 1], grey >> 8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 40_000])
def test_a_huge_declared_image_is_refused_before_decoding(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both below and above the size at which Pillow itself refuses."""
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    monkeypatch.setattr(image_files, "image_array", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"bomb\.png: found .* pixels; expected at most") as caught:
        read_media(tmp_path / "bomb.png", Modality.IMAGE)
    assert caught.value.fault is Fault.LIMIT


def test_long_audio_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(8000 * 700), 8000)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"long\.flac: found 700 seconds; expected at most 600"):
        read_media(tmp_path / "long.flac", Modality.AUDIO)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (MediaLimits(pixels=1000), "pixels"),
        (MediaLimits(seconds=0.5), "seconds"),
        (MediaLimits(frames=5), "frames"),
        (MediaLimits(bytes=20_000), "bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_video_over_a_limit_is_refused_before_decoding(
    tmp_path: Path, limits: MediaLimits, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_media(smooth_video(), tmp_path / "a.mp4")
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(decoded_video, "ShownFrames", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=f"{said}; expected at most") as caught:
        read_media(path, Modality.VIDEO, limits)
    assert caught.value.fault is Fault.LIMIT


def test_a_video_whose_header_hides_its_length_is_stopped_while_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_media(smooth_video(), tmp_path / "a.gif")
    monkeypatch.setattr(decoded_video, "_header_check", lambda *_: None)
    with pytest.raises(DataError, match="found 4 frames; expected at most 3"):
        read_media(path, Modality.VIDEO, MediaLimits(frames=3))


def test_a_video_whose_header_hides_its_size_is_stopped_by_the_codec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_media(smooth_video(), tmp_path / "a.mp4")
    monkeypatch.setattr(decoded_video, "_header_check", lambda *_: None)
    assert read_media(path, Modality.VIDEO, MediaLimits(pixels=64 * 64)).array.shape == (6, 32, 48, 3)
    with pytest.raises(DataError, match="no readable video"):
        read_media(path, Modality.VIDEO, MediaLimits(pixels=32 * 48 - 1))


def test_a_huge_declared_cloud_is_refused_before_decoding(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (10_000_000_000, 3)}
        )
    (tmp_path / "b.ply").write_bytes(ply("binary_little_endian", declared=10_000_000_000))
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.npy", "points.npy")
    for name in ("a.npy", "b.ply", "c.npz"):
        with pytest.raises(DataError, match=f"{name}: found 1e\\+10 points; expected at most"):
            read_media(tmp_path / name, Modality.POINTS)


def test_a_large_file_is_refused_unopened(tmp_path: Path) -> None:
    for modality in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.POINTS):
        (tmp_path / "large").write_bytes(b"\0" * 2000)
        with pytest.raises(DataError, match="found 2000 bytes; expected at most 1000"):
            read_media(tmp_path / "large", modality, MediaLimits(bytes=1000))


def test_limits_are_numbers_above_zero() -> None:
    with pytest.raises(ValueError, match=r"limits\.frames: found 0"):
        MediaLimits(frames=0)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", points=np.array([{"x": 1}], dtype=object))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DataError, match="Python objects"):
            read_media(tmp_path / name, Modality.POINTS)


def test_a_playlist_is_never_taken_for_a_video(tmp_path: Path) -> None:
    save_media(smooth_video(), tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "b.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret.mp4'\n")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(DataError, match="no known container"):
            read_media(tmp_path / name, Modality.VIDEO)


WHOLE: dict[str, tuple[Modality, Callable[[Path], object]]] = {
    "a.png": (Modality.IMAGE, lambda path: save_media(Media(Modality.IMAGE, noise(40, 40, 3)), path)),
    "a.jpg": (Modality.IMAGE, lambda path: Image.fromarray(noise(40, 40, 3)).save(path)),
    "a.mp4": (Modality.VIDEO, lambda path: save_media(smooth_video(), path)),
    "a.mkv": (Modality.VIDEO, lambda path: save_media(smooth_video(), path)),
    "a.flac": (Modality.AUDIO, lambda path: soundfile.write(path, sine().array, 16000)),
    "a.ogg": (Modality.AUDIO, lambda path: soundfile.write(path, sine().array, 16000)),
    "a.wav": (Modality.AUDIO, lambda path: save_media(sine(), path)),
    "a.npy": (Modality.POINTS, lambda path: save_media(cloud(), path)),
    "a.npz": (Modality.POINTS, lambda path: np.savez_compressed(path, points=cloud().array)),
    "a.ply": (Modality.POINTS, lambda path: path.write_bytes(ply("binary_little_endian"))),
    "b.ply": (Modality.POINTS, lambda path: path.write_bytes(ply("ascii"))),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("damage", ["empty", "head", "half", "text", "zeros"])
def test_corrupt_files_are_one_error_that_names_them(tmp_path: Path, name: str, damage: str) -> None:
    modality, write = WHOLE[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    assert read_media(path, modality).modality is modality
    damaged = {
        "empty": b"",
        "head": whole[:20],
        "half": whole[: len(whole) // 2],
        "text": b"<html>404 not found</html>",
        "zeros": b"\0" * len(whole),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=name) as caught:
        read_media(path, modality)
    assert caught.value.fault is Fault.CORRUPT and "Fix: " in str(caught.value)


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
def test_flipped_bytes_are_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    modality, write = WHOLE[name]
    path = tmp_path_factory.getbasetemp() / f"flipped_{name}"
    if not path.exists():
        write(path)
        path.with_suffix(".whole").write_bytes(path.read_bytes())
    whole = bytearray(path.with_suffix(".whole").read_bytes())
    for _ in range(3):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        assert read_media(path, modality, MediaLimits(pixels=10_000_000, bytes=100_000_000)).modality is modality
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 5), np.float32), r"\(4, 5\)"),
        (np.zeros((0, 3), np.float32), r"\(0, 3\)"),
        (np.array(["a"]), "<U1"),
        (np.full((4, 3), np.nan, np.float32), "aren't finite"),
        (np.full((4, 6), 1.5, np.float32), "colours reach from 1.5 to 1.5"),
    ],
    ids=["columns", "empty", "text", "nan", "colours"],
)
def test_arrays_that_are_no_cloud_are_refused(tmp_path: Path, array: np.ndarray[Any, Any], said: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=said):
        read_media(tmp_path / "a.npy", Modality.POINTS)


def test_audio_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.inf, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(DataError, match="aren't finite"):
        read_media(tmp_path / "a.wav", Modality.AUDIO)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "inner/../../secret.png", "link.png", "circle.png"])
def test_paths_cannot_leave_their_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    save_media(Media(Modality.IMAGE, noise(2, 2, 3)), tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    with pytest.raises(DataError) as caught:
        read_media(name, Modality.IMAGE, root=root)
    assert caught.value.fault is Fault.PATH


def test_paths_inside_their_root_are_read(tmp_path: Path) -> None:
    path = save_media(Media(Modality.IMAGE, noise(2, 2, 3)), tmp_path / "inner" / "a.png")
    for name in ("inner/a.png", "inner/../inner/a.png", str(path)):
        assert read_media(name, Modality.IMAGE, root=tmp_path).array.shape == (2, 2, 3)


@pytest.mark.parametrize(
    "name", ["http://a.b/c.png", "HTTPS://a.b/c.png", "file:///etc/passwd", "data:image/png;base64,AA", "//host/c.png"]
)
@pytest.mark.parametrize("rooted", [True, False])
def test_addresses_are_never_fetched(tmp_path: Path, name: str, rooted: bool) -> None:
    with pytest.raises(DataError, match="found the URL"):
        read_media(name, Modality.IMAGE, root=tmp_path if rooted else None)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "."])
def test_names_that_are_no_file_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        read_media(name, Modality.IMAGE, root=tmp_path)
    assert caught.value.fault is Fault.PATH


def test_an_ending_of_another_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found the ending '\.png' for audio; expected \.wav"):
        save_media(sine(), tmp_path / "a.png")
