"""Damaged files of every format that is read: a medium or a worded fault comes of each, nothing else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trimesh
from data.made_media import BYTES, PLACES, colours, encode, pcd, ply, tone, xyz
from PIL import Image

from isthmus.data.errors import DataError
from isthmus.data.media.files import read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.types import Modality

LIMITS = MediaLimits(pixels=4_000_000, seconds=60, points=100_000, bytes=50_000_000, broken_points=1000)
RUNS = 300
"""Damaged files of each modality."""


def picture(**options: object) -> Callable[[Path], None]:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 4), dtype=np.uint8)

    def write(path: Path) -> None:
        mode = "RGB" if path.suffix in (".jpg", ".bmp") else "RGBA"
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(noise).convert(mode).save(path, exif=exif, **options)  # type: ignore[arg-type]

    return write


def sound(path: Path) -> None:
    soundfile.write(path, np.stack([tone(0.2), tone(0.2)], axis=1), 48000)


def survey(path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    form, version = (7, "1.4") if path.stem == "n" else (3, "1.2")
    made = laspy.LasData(laspy.LasHeader(point_format=form, version=version))
    made.x, made.y, made.z = PLACES.T
    made.red, made.green, made.blue = BYTES.T
    stream = BytesIO()
    made.write(
        stream,
        do_compress=path.suffix == ".laz",
    )
    path.write_bytes(stream.getvalue())


PACKED = (BYTES.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=1).astype(np.uint32)

WHOLE: dict[str, tuple[Modality, Callable[[Path], object]]] = {
    **{
        name: (Modality.IMAGE, picture()) for name in ("a.png", "a.webp", "a.gif", "a.tiff", "a.avif", "a.bmp", "a.jpg")
    },
    "p.jpg": (Modality.IMAGE, picture(progressive=True)),
    "f.tiff": (Modality.IMAGE, lambda path: Image.fromarray(PLACES - PLACES.min()).save(path)),
    "i.png": (Modality.IMAGE, lambda path: Image.fromarray((BYTES * 9).astype(np.uint16)).save(path)),
    **{f"s.{end}": (Modality.AUDIO, sound) for end in ("wav", "flac", "mp3", "ogg", "aiff", "w64")},
    "m.m4a": (Modality.AUDIO, lambda path: encode(path, "aac", tone(0.2), container="ipod")),
    "m.aac": (Modality.AUDIO, lambda path: encode(path, "aac", tone(0.2), container="adts")),
    "m.webm": (Modality.AUDIO, lambda path: encode(path, "libopus", tone(0.2))),
    "m.mka": (Modality.AUDIO, lambda path: encode(path, "pcm_s16le", tone(0.2), container="matroska")),
    "m.ts": (Modality.AUDIO, lambda path: encode(path, "aac", tone(0.2))),
    "a.npy": (Modality.POINTS, lambda path: np.save(path, PLACES)),
    "a.npz": (Modality.POINTS, lambda path: np.savez(path, xyz=PLACES, rgb=BYTES)),
    "a.ply": (Modality.POINTS, lambda path: path.write_bytes(ply(xyz() | colours("r g b", BYTES)))),
    "t.ply": (Modality.POINTS, lambda path: path.write_bytes(ply(xyz(), text=True))),
    "m.ply": (Modality.POINTS, lambda path: trimesh.creation.box().export(path)),
    "n.ply": (Modality.POINTS, lambda path: trimesh.creation.box().export(path, encoding="ascii")),
    **{
        f"{form[0]}{form[-1]}.pcd": (
            Modality.POINTS,
            lambda path, form=form: path.write_bytes(pcd(form, xyz() | {"rgb": PACKED})),
        )
        for form in ("ascii", "binary", "binary_compressed")
    },
    **{name: (Modality.POINTS, survey) for name in ("a.las", "a.laz", "n.laz")},
    **{
        f"b.{end}": (Modality.POINTS, lambda path: trimesh.creation.box().export(path)) for end in ("glb", "obj", "off")
    },
}


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """A file with bytes changed, cut out or doubled, or cut off; more often in front, where headers stand."""
    data = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        at = int(len(data) * rng.random() ** rng.choice([1, 3]))
        size = int(rng.choice([1, 1, 2, 4, 16, 200]))
        match rng.integers(0, 6):
            case 0 | 1:
                data[at : at + size] = rng.bytes(len(data[at : at + size]))
            case 2:
                data[at : at + size] = bytes([int(rng.choice([0, 0x7F, 0x80, 0xFF]))]) * len(data[at : at + size])
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = data[at : at + size]
            case _:
                del data[at + size :]
    return bytes(data)


def outcomes(name: str, whole: bytes, path: Path, seeds: range) -> Iterator[str]:
    """Reads damaged files, and yields what came of each."""
    for seed in seeds:
        path.write_bytes(damaged(whole, np.random.default_rng(seed)))
        try:
            read_media(path, WHOLE[name][0], LIMITS)
            yield "read"
        except DataError as error:
            assert str(path) in str(error) and "; expected " in str(error)
            yield error.fault


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_files_are_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    modality, write = WHOLE[name]
    write(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    assert read_media(tmp_path / name, modality, LIMITS).modality is modality
    runs = RUNS // sum(other is modality for other, _ in WHOLE.values())
    assert "corrupt" in set(outcomes(name, whole, tmp_path / name, range(runs)))


def test_a_compressed_cloud_takes_no_memory_for_what_it_declares(tmp_path: Path) -> None:
    """lazrs takes memory for a chunk of the table, and for a layer of a chunk, before it reads either."""
    lazrs = pytest.importorskip("lazrs")
    old, new = tmp_path / "a.laz", tmp_path / "n.laz"
    survey(old)
    survey(new)
    data = bytearray(old.read_bytes())
    (begin,) = struct.unpack("<I", data[96:100])
    (table,) = struct.unpack("<q", data[begin : begin + 8])
    written = BytesIO()
    record = lazrs.LazVlr.new_for_compression(3, 0)
    lazrs.write_chunk_table(written, [(len(PLACES), 60 << 30)], record)
    old.write_bytes(data[:table] + written.getvalue())
    assert len(read_media(old, Modality.POINTS).array) == len(PLACES), "points are read one after the other"
    data = bytearray(new.read_bytes())
    (begin,) = struct.unpack("<I", data[96:100])
    layers = begin + 8 + 36 + 4  # the table's place, the first point, the chunk's count
    data[layers : layers + 4] = b"\xff" * 4
    new.write_bytes(data)
    with pytest.raises(DataError, match=r"n.laz: .*declare layers up to byte \d+ of \d+"):
        read_media(new, Modality.POINTS)
