"""Media of requests and answers: data URIs and base64, decoded within limits; nothing is fetched from a network."""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.data.media.files import read_media, save_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.stored import StoredFile
from isthmus.request import Request
from isthmus.serving.errors import invalid
from isthmus.types import Media, Modality

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


class Reader:
    """Decodes the media of requests.

    Args:
        limits: caps on each.
        requests: by modality that the model takes, the part of a medium that its encoder uses.
    """

    def __init__(self, limits: MediaLimits, requests: Mapping[Modality, Request | None]) -> None:
        self.limits = limits
        self.requests = requests

    def from_uri(self, url: Any, modality: Modality, where: str) -> Media:
        """The medium in a data URI.

        Raises:
            ApiError: an address instead, another type, or no base64.
            ValueError: it can't be decoded, or exceeds a limit.
        """
        found = URI.match(url[:200]) if isinstance(url, str) else None
        if found is None:
            scheme = url.partition(":")[0][:20] if isinstance(url, str) else type(url).__name__
            raise invalid(
                f"{where}: found '{scheme}'; expected a data URI, as data:image/png;base64,... since this server "
                "fetches no addresses. Fix: send the file's content.",
                where,
            )
        kind = found[1].lower()
        if kind not in ENDINGS:
            raise invalid(f"{where}: found {kind}; expected one of {', '.join(ENDINGS)}. Fix: convert it.", where)
        return self.from_base64(url[found.end() :], ENDINGS[kind], modality, where)

    def from_base64(self, text: str, ending: str, modality: Modality, where: str) -> Media:
        """The medium in a file's bytes in base64. See :meth:`from_uri` for errors."""
        if len(text) * 3 // 4 > self.limits.bytes + 2:
            most = f"{self.limits.bytes} bytes"
            raise invalid(f"{where}: found {len(text) * 3 // 4} bytes; expected at most {most}. Fix: shrink it.", where)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{where}: found no base64; expected it. Fix: encode the file's bytes.", where) from None
        request = self.requests.get(modality)
        partly = request if request is not None and request.frames is not None else None
        return read_media(StoredFile(f"{where}{ending}", data), modality, self.limits, request=partly)


def to_uri(medium: Media) -> str:
    """A medium as a data URI of a file of its modality's first ending."""
    ending = medium.modality.spec.file_endings[0]
    return f"data:{TYPES.get(ending, 'application/octet-stream')};base64,{to_base64(medium)}"


def to_base64(medium: Media) -> str:
    """A medium's file in base64."""
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        path = save_media(medium, Path(folder) / f"medium{medium.modality.spec.file_endings[0]}")
        return base64.b64encode(path.read_bytes()).decode("ascii")
