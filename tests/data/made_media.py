"""Small sounds and clouds in many containers, made by rule."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np

Array = np.ndarray[Any, Any]

PLACES = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
BYTES = np.random.default_rng(1).integers(0, 256, (40, 3), dtype=np.uint8)
BYTES[0] = 0, 128, 255


UTM = np.array([500_000.0, 4_600_000.0, 120.0])


def tone(seconds: float = 1.0, rate: int = 48000) -> Array:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(path: Path, codec: str, samples: Array, film: bool = False, container: str | None = None) -> None:
    """Writes mono 48 kHz by PyAV, beside a moving picture if asked."""
    with av.open(str(path), "w", format=container) as opened:
        sound: Any = opened.add_stream(codec, rate=48000)
        sound.layout = "mono"
        if film:
            picture: Any = opened.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
            for _ in range(10):
                opened.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
            opened.mux(picture.encode())
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 48000
        fitting = av.AudioResampler(format=sound.format, layout="mono", rate=48000, frame_size=sound.frame_size)
        for made in [*fitting.resample(frame), *fitting.resample(None)]:
            made.pts = None
            opened.mux(sound.encode(made))
        opened.mux(sound.encode())


NAMES = {"u1": "uchar", "u2": "ushort", "i4": "int", "u4": "uint", "f4": "float", "f8": "double"}


def ply(columns: dict[str, Array], text: bool = False, before: str = "", rows: bytes = b"") -> bytes:
    """A PLY of vertices, with another element's header and rows before them."""
    head = f"ply\nformat {'ascii' if text else 'binary_little_endian'} 1.0\n{before}element vertex {len(PLACES)}\n"
    head += "".join(f"property {NAMES[c.dtype.str[1:]]} {name}\n" for name, c in columns.items()) + "end_header\n"
    table = np.rec.fromarrays(list(columns.values()), names=list(columns))
    if text:
        return head.encode() + rows + "\n".join(" ".join(map(repr, map(float, row))) for row in table).encode()
    return head.encode() + rows + table.tobytes()


def xyz(kind: str = "f4", offset: Any = 0.0) -> dict[str, Array]:
    moved = (PLACES.astype(np.float64) + offset).astype(kind)
    return {name: moved[:, i] for i, name in enumerate("xyz")}


def colours(names: str, values: Array) -> dict[str, Array]:
    return {name: values[:, i] for i, name in enumerate(names.split())}


def pcd(form: str, columns: dict[str, Array]) -> bytes:
    kinds = [c.dtype for c in columns.values()]
    head = f"# .PCD v0.7\nVERSION 0.7\nFIELDS {' '.join(columns)}\nSIZE {' '.join(str(k.itemsize) for k in kinds)}\n"
    head += (
        f"TYPE {' '.join(k.kind.upper() for k in kinds)}\nCOUNT {' '.join('1' for _ in kinds)}\nWIDTH 40\nHEIGHT 1\n"
    )
    head += f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 40\nDATA {form}\n"
    if form == "ascii":
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return head.encode() + "\n".join(" ".join(map(repr, row)) for row in rows).encode()
    if form == "binary":
        return head.encode() + np.rec.fromarrays(list(columns.values()), names=list(columns)).tobytes()
    data = b"".join(column.tobytes() for column in columns.values())
    # LZF may hold everything as it stands, 32 bytes at a time.
    packed = b"".join(bytes([len(p) - 1]) + p for p in (data[i : i + 32] for i in range(0, len(data), 32)))
    return head.encode() + struct.pack("<II", len(packed), len(data)) + packed
