"""Pictures as users bring them: transparency, deep greys, turned, cut, with large texts; in each format alike."""

from __future__ import annotations

import logging
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media
from isthmus.data.media.in_memory import to_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.remarks import Remark, remark, remarks
from isthmus.request import Request
from isthmus.types import Modality

Array = np.ndarray[Any, Any]


def read(path: Path) -> Array:
    return read_media(path, Modality.IMAGE).array


def smooth(height: int = 24, width: int = 32) -> Array:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // (height - 1), columns * 255 // (width - 1), rows * 0 + 64], axis=2).astype(np.uint8)


def clear_left() -> tuple[Image.Image, Array]:
    """RGBA whose left half is clear over noise, its middle column half clear black; and what it looks like on white."""
    rgba = np.zeros((8, 9, 4), np.uint8)
    rgba[:, :4, :3] = np.random.default_rng(0).integers(0, 256, (8, 4, 3))
    rgba[:, 4, 3] = 128
    rgba[:, 5:] = (200, 30, 60, 255)
    seen = np.full((8, 9, 3), 255, np.uint8)
    seen[:, 4], seen[:, 5:] = 127, (200, 30, 60)
    return Image.fromarray(rgba), seen


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.webp", {"lossless": True, "exact": True}), ("a.tiff", {}), ("a.avif", {"quality": 100})],
)
def test_what_is_clear_is_white_in_every_format(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    image, seen = clear_left()
    image.save(tmp_path / name, **options)
    found = read(tmp_path / name).astype(int)
    assert np.abs(found - seen)[:, [0, 1, 2, 4, 6, 7, 8]].max() <= (40 if name == "a.avif" else 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L", "1"])
def test_what_is_clear_is_white_in_every_colour_mode(tmp_path: Path, mode: str) -> None:
    black = {"RGBA": (0, 0, 0, 0), "LA": (0, 0), "RGB": (1, 2, 3)}.get(mode, 0)
    image = Image.new(mode, (6, 6), black)
    if mode == "PA":
        image.putpalette([0, 0, 0, 200, 30, 60])
        found = to_media(image, Modality.IMAGE, None, "here").array  # no format stores it
    else:
        options = {"P": {"transparency": 0}, "L": {"transparency": 0}, "1": {"transparency": 0}}.get(mode, {})
        if mode == "RGB":
            options = {"transparency": (1, 2, 3)}
        image.save(tmp_path / "a.png", **options)
        found = read(tmp_path / "a.png")
    assert (found == 255).all()


def png(depth: int, colour: int, width: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG one pixel high, its chunks as given."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    whole = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in whole)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(
    ("made", "seen"),
    [
        (png(2, 0, 4, bytes([0b00011011]), (b"tRNS", struct.pack(">H", 1))), [0, 255, 170, 255]),
        (png(4, 0, 2, bytes([0x2A]), (b"tRNS", struct.pack(">H", 2))), [255, 170]),
        (png(16, 0, 2, struct.pack(">2H", 1000, 0x8001), (b"tRNS", struct.pack(">H", 1000))), [255, 128]),
        (png(16, 2, 1, struct.pack(">3H", 5000, 600, 7), (b"tRNS", struct.pack(">3H", 5000, 600, 7))), [255]),
    ],
    ids=["2 bits", "4 bits", "16 bits", "3 of 16 bits"],
)
def test_the_colour_that_is_clear_has_the_depth_of_the_file(tmp_path: Path, made: bytes, seen: list[int]) -> None:
    (tmp_path / "a.png").write_bytes(made)
    assert read(tmp_path / "a.png")[0, :, 0].tolist() == seen


@pytest.mark.parametrize("name", ["a.gif", "b.webp"])
def test_frames_of_animations_stand_on_white(tmp_path: Path, name: str) -> None:
    image, _ = clear_left()
    moved = Image.fromarray(np.flip(np.asarray(image), axis=1))
    image.save(tmp_path / name, save_all=True, append_images=[moved], disposal=2, duration=100, lossless=True)
    first, second = read_media(tmp_path / name, Modality.VIDEO).array
    assert (first[:, :4] == 255).all() and (second[:, 5:] == 255).all()
    assert (read(tmp_path / name)[:, :4] == 255).all()


def tiff(values: Array, tags: dict[int, Any] | None = None) -> bytes:
    stream = BytesIO()
    Image.fromarray(values).save(stream, "TIFF", tiffinfo=tags or {})
    return stream.getvalue()


RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    ("values", "tags", "assumed"),
    [
        ((RAMP / 255).astype(np.float32), {}, False),
        (RAMP.astype(np.float32), {}, True),
        ((RAMP * 4 - 100).astype(np.float32), {340: -100.0, 341: 920.0}, False),
        ((RAMP << 4 | RAMP >> 4).astype(np.uint16), {}, True),
        ((RAMP << 4 | RAMP >> 4).astype(np.uint16), {281: 4095}, False),
        ((RAMP * 257).astype(np.uint16), {}, False),
        (RAMP.astype(np.uint16), {}, True),
        ((RAMP * 257).astype(np.int32), {}, False),
        ((65535 - RAMP * 257).astype(np.uint16), {262: 0}, False),
    ],
    ids=["unit", "float 255", "stated", "12 bits", "12 stated", "16", "8 in 16", "32", "white is zero"],
)
def test_deep_greys_are_scaled_by_their_range(
    tmp_path: Path, values: Array, tags: dict[int, Any], assumed: bool
) -> None:
    (tmp_path / "a.tiff").write_bytes(tiff(values, tags))
    with remarks() as found:
        grey = read(tmp_path / "a.tiff")
    assert np.array_equal(grey, np.repeat(RAMP[..., None], 3, axis=2))
    assert [kind for kind, _ in found] == [Remark.ASSUMED_RANGE] * assumed
    assert all("a.tiff: it states no range" in said for _, said in found)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (RAMP.astype(np.float32) - 1, "reach from -1 to 254 and it states no range; expected 0 to 1 or 255"),
        ((RAMP * 1e6).astype(np.int32), "reach from 0 to 2.55e\\+08"),
        (np.where(RAMP == 7, np.nan, RAMP).astype(np.float32), "values that aren't finite"),
    ],
)
def test_greys_of_no_usual_range_are_refused_with_it(tmp_path: Path, values: Array, said: str) -> None:
    (tmp_path / "a.tiff").write_bytes(tiff(values))
    with pytest.raises(DataError, match=said):
        read(tmp_path / "a.tiff")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff", "a.avif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_in_every_container_is_turned_upright(tmp_path: Path, name: str, turn: int) -> None:
    corners = np.zeros((32, 48, 3), np.uint8)
    corners[:16, :24], corners[:16, 24:], corners[16:, :24] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    stored = {
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.transpose(1, 0, 2),
        6: np.rot90(corners),
        7: corners[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(corners, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
    assert np.abs(read(tmp_path / name)[8::16, 12::24].astype(int) - corners[8::16, 12::24]).max() < 40


def test_a_broken_exif_block_is_no_reason_to_refuse(tmp_path: Path) -> None:
    for block in (b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0II\x2a\0\xff\xff\xff\xff"):
        Image.fromarray(smooth()).save(tmp_path / "a.png", exif=block)
        assert np.array_equal(read(tmp_path / "a.png"), smooth())


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2, 3, 40, 300])
def test_a_jpeg_may_lack_its_end_mark_and_nothing_else(tmp_path: Path, progressive: bool, lost: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    image.save(tmp_path / "a.jpg", progressive=progressive)
    whole = read(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:-lost])
    if lost <= 2:
        assert np.array_equal(read(tmp_path / "a.jpg"), whole)
        return
    with pytest.raises(DataError, match="truncated") as caught:
        read(tmp_path / "a.jpg")
    assert caught.value.fault is Fault.CORRUPT


@pytest.mark.parametrize("place", ["text", "profile", "international"])
def test_metadata_of_two_megabytes_are_skipped(tmp_path: Path, place: str) -> None:
    info, profile = PngImagePlugin.PngInfo(), None
    if place == "text":
        info.add_text("Comment", "a" * 2_000_000, zip=True)
    elif place == "international":
        info.add_itxt("Comment", "a" * 2_000_000, zip=True)
    else:
        profile = bytes(2_000_000)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(smooth()).save(tmp_path / "a.png", pnginfo=info, icc_profile=profile, exif=exif)
    assert np.array_equal(read(tmp_path / "a.png"), smooth()[::-1, ::-1])
    with pytest.raises(DataError, match="pixels; expected at most 10"):
        read_media(tmp_path / "a.png", Modality.IMAGE, MediaLimits(pixels=10))


@pytest.mark.parametrize(("name", "modality"), [("a.png", "image"), ("a.webp", "video"), ("a.tiff", "depth")])
def test_a_limit_above_pillows_own_counts(
    name: str, modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.new("I;16" if modality == "depth" else "RGB", (20, 20))
    picture.save(tmp_path / name, **({"save_all": True, "append_images": [picture]} if modality == "video" else {}))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_media(tmp_path / name, Modality(modality), MediaLimits(pixels=400)).array.size >= 400
    with pytest.raises(DataError, match="found 400 pixels; expected at most 399"):
        read_media(tmp_path / name, Modality(modality), MediaLimits(pixels=399))


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_other_colours_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(smooth())
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        made = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
        assert made is not None
        made.save(tmp_path / "a.tiff")
    else:
        image.convert(mode).save(tmp_path / "a.tiff")
    assert np.abs(read(tmp_path / "a.tiff").astype(int) - smooth()).mean() < 3


def test_remarks_that_nobody_collects_are_logged_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for index in range(100):
            remark(Remark.BROKEN_POINTS, f"{index}.ply", "something")
    assert len(caplog.records) <= 3 and "broken points" in caplog.text


def photograph(height: int, width: int) -> Image.Image:
    """Waves of several lengths, as a picture has large and small shapes."""
    y, x = np.mgrid[:height, :width] / height
    channels = [np.sin(20 * x + k) + np.cos(35 * y * x) + 0.5 * np.sin(150 * (x + y) + k) for k in range(3)]
    return Image.fromarray(np.uint8(np.clip(np.stack(channels, -1) * 50 + 128, 0, 255)))


@pytest.mark.parametrize(
    ("side", "shape"), [(32, (192, 256)), (64, (384, 512)), (300, (1536, 2048)), (None, (1536, 2048))]
)
def test_a_jpeg_is_decoded_no_larger_than_its_reader_looks(tmp_path: Path, side: int | None, shape: Any) -> None:
    path = tmp_path / "photograph.jpg"
    photograph(1536, 2048).save(path, quality=92)
    whole = read_media(path, Modality.IMAGE)
    found = read_media(path, Modality.IMAGE, request=Request(side=side))
    assert found.array.shape == (*shape, 3)
    assert min(shape) >= min(4 * (side or 9999), 1536)
    if side is not None:
        size = (side * 4 // 3, side)
        small, expected = (
            np.asarray(Image.fromarray(medium.array).resize(size, Image.Resampling.BICUBIC), float)
            for medium in (found, whole)
        )
        assert np.abs(small - expected).max() <= 4 and np.abs(small - expected).mean() < 0.6


def test_limits_hold_what_is_decoded_of_a_jpeg(tmp_path: Path) -> None:
    path, limits = tmp_path / "photograph.jpg", MediaLimits(pixels=500_000)
    photograph(1536, 2048).save(path)
    assert read_media(path, Modality.IMAGE, limits, request=Request(side=64)).array.shape == (384, 512, 3)
    with pytest.raises(DataError, match="pixels"):
        read_media(path, Modality.IMAGE, limits)


def test_other_formats_keep_every_pixel(tmp_path: Path) -> None:
    photograph(256, 256).save(tmp_path / "p.png")
    assert read_media(tmp_path / "p.png", Modality.IMAGE, request=Request(side=8)).array.shape == (256, 256, 3)
