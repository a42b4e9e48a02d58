"""What a file is by its ending, and what ending bytes without a name should have."""

from __future__ import annotations

from pathlib import PurePosixPath

from isthmus.types import MEDIA, Modality

ENDINGS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic"),
    Modality.VIDEO: ("mp4", "webm", "mkv", "mov", "avi", "m4v", "ts", "mpg", "mpeg", "flv"),
    Modality.AUDIO: ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "aiff", "mka"),
    Modality.POINTS: ("ply", "npy", "npz", "pcd", "las", "laz", "glb", "obj", "off"),
}
"""The endings of media, without a dot, in the order in which they are looked for."""

_BEGINNINGS = (
    (0, b"\x89PNG", "png"),
    (0, b"\xff\xd8\xff", "jpg"),
    (8, b"WEBP", "webp"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (8, b"WAVE", "wav"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xfb", "mp3"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1aE\xdf\xa3", "mkv"),
    (8, b"AVI ", "avi"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"PK\x03\x04", "npz"),
    (0, b"ply", "ply"),
    (0, b"LASF", "las"),
    (0, b"glTF", "glb"),
)


def endings_of(modality: Modality) -> tuple[str, ...]:
    """The endings that tell a modality; none of one whose files end as those of others do, such as a depth map's."""
    return ENDINGS.get(modality, ())


def modality_of(name: str) -> Modality | None:
    """What a file is by its name; None where it is no medium."""
    ending = PurePosixPath(name).suffix[1:].lower()
    return next((modality for modality in MEDIA if ending in ENDINGS[modality]), None)


def ending_of(data: bytes, name: str) -> str:
    """The ending, with its dot, of a file's bytes: by how they begin, else by the name of the field that holds them."""
    for at, beginning, ending in _BEGINNINGS:
        if data[at : at + len(beginning)] == beginning:
            return f".{ending}"
    return f".{name.lower()}" if any(name.lower() in of for of in ENDINGS.values()) else ".bin"
