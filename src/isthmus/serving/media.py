"""Types of media in requests and answers, and answers' media as data URIs."""

from __future__ import annotations

import base64
import re

from isthmus.data.media.files import save_media
from isthmus.serving.guard.uploads import own_folder
from isthmus.serving.provenance import Provenance
from isthmus.types import Media

ENDINGS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/quicktime": ".mov",
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "audio/mp4": ".m4a",
    "application/x-npy": ".npy",
    "application/x-npz": ".npz",
    "model/ply": ".ply",
    "model/obj": ".obj",
    "model/gltf-binary": ".glb",
}
"""By media type the ending of its files, by which readers know some formats."""
TYPES = {ending: kind for kind, ending in ENDINGS.items()}
FORMATS = ("wav", "mp3", "flac", "ogg", "m4a")
"""Of ``input_audio``."""
URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w-]+=[\w.+-]+)*;base64,", re.IGNORECASE)


def media_type(medium: Media) -> str:
    """The type of a medium's file, which has its modality's first ending."""
    return TYPES.get(medium.modality.spec.file_endings[0], "application/octet-stream")


def file_uri(medium: Media, file: str) -> str:
    """The data URI of a medium's file, in base64 and of its modality's first ending."""
    return f"data:{media_type(medium)};base64,{file}"


def to_base64(medium: Media, made: Provenance | None = None) -> str:
    """A medium's file in base64."""
    return base64.b64encode(to_bytes(medium, made)).decode("ascii")


def to_bytes(medium: Media, made: Provenance | None = None) -> bytes:
    """A medium's file."""
    with own_folder() as folder:
        path = save_media(medium, folder / f"medium{medium.modality.spec.file_endings[0]}")
        if made is not None:
            made.mark(path)
        return path.read_bytes()
