"""Files to damage, of every type that the server reads, and small ones that declare or decode to very much."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile
import trimesh
from PIL import Image

from isthmus.data.media.files import save_media
from isthmus.types import Media, Modality

Typed = tuple[str, str, bytes]
"""A modality, a media type and a file's bytes."""
FILMS = {"video/mp4": ("mp4", "mpeg4"), "video/x-matroska": ("matroska", "mpeg4"), "video/quicktime": ("mov", "mpeg4")}
FILMS |= {"video/webm": ("webm", "libvpx")}
SOUNDS = {"audio/wav": "WAV", "audio/flac": "FLAC", "audio/ogg": "OGG", "audio/mpeg": "MP3"}
PICTURES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
PICTURES |= {"image/bmp": "BMP", "image/tiff": "TIFF"}


def intact(folder: Path) -> list[Typed]:
    """A small file of each type: those that the package writes, and those of other programs that it reads."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    frames = random.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    samples = (0.3 * np.sin(np.arange(4000) / 7)).astype(np.float32)
    cloud = random.random((64, 6)).astype(np.float32)
    found: list[Typed] = []
    for medium, endings in (
        (Media(Modality.IMAGE, pixels), {".png": "image/png"}),
        (Media(Modality.VIDEO, frames, 4.0), {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".gif": "image/gif"}),
        (Media(Modality.AUDIO, samples, 8000.0), {".wav": "audio/wav"}),
        (Media(Modality.POINTS, cloud), {".npy": "application/x-npy"}),
    ):
        for ending, kind in endings.items():
            data = save_media(medium, folder / f"own{ending}").read_bytes()
            found.append((str(medium.modality), kind, data))
    for kind, form in PICTURES.items():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form)
        found.append(("image", kind, file.getvalue()))
    for kind, form in SOUNDS.items():
        file = io.BytesIO()
        soundfile.write(file, samples, 8000, format=form)
        found.append(("audio", kind, file.getvalue()))
    found.append(("audio", "audio/mp4", _sound_in_mp4(samples)))
    found += [("video", kind, _film(frames, *how)) for kind, how in FILMS.items()]
    mesh = trimesh.creation.icosphere(1)
    shapes = {"model/ply": "ply", "model/obj": "obj", "model/gltf-binary": "glb"}
    for kind, form in shapes.items():
        data = mesh.export(file_type=form)
        found.append(("points", kind, data.encode() if isinstance(data, str) else data))
    packed = io.BytesIO()
    np.savez_compressed(packed, points=cloud)
    return [*found, ("points", "application/x-npz", packed.getvalue())]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The file with bytes changed, cut off, repeated, moved, zeroed, or numbers in it made huge."""
    changed = bytearray(data)
    for place in random.integers(0, len(data), random.integers(1, 20)):
        changed[place] = random.integers(256)
    start, end = sorted(int(place) for place in random.integers(0, len(changed) + 1, 2))
    match random.integers(7):
        case 0:
            return bytes(changed[:end])
        case 1:
            return bytes(changed[:end] + changed[start:])
        case 2:
            return bytes(changed[:start] + bytes(end - start) + changed[end:])
        case 3:
            return bytes(changed[end:] + changed[:end])
        case 4:
            huge = random.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00"])
            head = int(random.integers(0, min(len(changed), 64)))
            return bytes(changed[:head] + huge + changed[head + 4 :])
        case 5:
            return bytes(random.integers(0, 256, len(data), dtype=np.uint8))
    return bytes(changed)


def huge() -> list[Typed]:
    """Small files whose headers declare very much."""
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    frame = jpeg.getvalue().replace(struct.pack(">BHH", 8, 8, 8), struct.pack(">BHH", 8, 65500, 65500))
    tags = [(256, 4, 1, 1 << 31), (257, 4, 1, 1 << 31), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 1 << 31), (279, 4, 1, 0xFFFFFFFF)]
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    wav = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 8000, 32000, 4, 16)
    ply = "ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\nproperty float x\nproperty float y\n"
    glb = struct.pack("<4sIIII", b"glTF", 2, 0xFFFFFFFF, 0xFFFFFFF0, 0x4E4F534A) + b'{"asset":{"version":"2.0"}}'
    flac = b"fLaC\x80\0\0\x22" + struct.pack(">HH", 65535, 65535) + bytes(6) + b"\x0a\xc4\x42\xff\xff\xff\xff\xff"
    return [
        ("image", "image/png", _png(60_000, 60_000, bytes(1 << 20))),
        ("image", "image/png", _png(0x7FFFFFFF, 0x7FFFFFFF, b"")),
        ("image", "image/gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"),
        ("image", "image/bmp", b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 1 << 30, 1 << 30, 1, 24, *[0] * 6)),
        ("image", "image/tiff", tiff),
        ("image", "image/webp", b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6),
        ("image", "image/jpeg", frame),
        ("audio", "audio/wav", wav + b"data\xff\xff\xff\x7f" + bytes(100)),
        ("audio", "audio/flac", flac + bytes(16) + b"\xff\xf8"),
        ("points", "application/x-npy", _npy("<f4", "(4000000000, 3)")),
        ("points", "application/x-npy", _npy("<f4", "(2000000, 2000000)")),
        ("points", "application/x-npy", _npy("|O", "(4, 3)") + b"cos\nsystem\n(S'true'\ntR."),
        ("points", "model/ply", (ply + "property float z\nend_header\n").encode() + bytes(120)),
        ("points", "model/obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4000000000\n"),
        ("points", "model/gltf-binary", glb),
    ]


def bombs() -> list[Typed]:
    """Small files that decode to very much."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file, file.open("points.npy", "w") as inner:
        inner.write(_npy("<f4", "(8000000, 3)"))
        for _ in range(96):
            inner.write(bytes(1_000_000))
    frames = [Image.new("L", (1000, 1000), shade % 256) for shade in range(100)]
    animation = io.BytesIO()
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:], duration=20)
    text = zlib.compress(bytes(100 << 20), 1)
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(2_000_000, np.float32), 8000, format="FLAC")
    triangles = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + b"f 1 2 3\n" * 30_000
    return [
        largest(),
        ("image", "image/png", _png(100_000, 100, bytes(100 * (1 + 300_000)))),
        ("image", "image/png", _png(8, 8, bytes(8 * 25), _chunk(b"zTXt", b"Comment\0\0" + text))),
        ("image", "image/png", _png(8, 8, bytes(8 * 25), _chunk(b"iCCP", b"icc\0\0" + text))),
        ("video", "image/gif", animation.getvalue()),
        ("audio", "audio/flac", silence.getvalue()),
        ("points", "application/x-npz", archive.getvalue()),
        ("points", "model/obj", triangles),
    ]


@cache
def largest() -> Typed:
    """A small picture of nearly the most pixels, which decodes to 48 MB."""
    return "image", "image/png", _png(3990, 3990, bytes(3990 * (1 + 3 * 3990)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, rows: bytes, more: bytes = b"") -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + _chunk(b"IDAT", zlib.compress(rows, 1)) + _chunk(b"IEND", b"")


def _npy(kind: str, shape: str) -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def _film(frames: np.ndarray, form: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=Fraction(4))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _sound_in_mp4(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
