"""Media of requests and answers: data URIs and base64, decoded within limits; nothing is fetched from a network."""

from __future__ import annotations

import base64
import binascii
import queue
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.data.media.files import save_media
from isthmus.request import Request
from isthmus.serving.errors import ApiError, invalid
from isthmus.serving.guard.decoding import Decoder, decoded
from isthmus.serving.guard.uploads import Uploads
from isthmus.serving.guard.worker import Facts
from isthmus.serving.guard.workers import WorkerEnded, Workers
from isthmus.serving.limits import ServingLimits
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
    """Decodes the media of requests, in processes that are killed if they take too much time or memory.

    Args:
        limits: caps on media and on their decoding.
        requests: by modality that the model takes, the part of a medium that its encoder uses.
        modalities: that are read.
    """

    def __init__(
        self, limits: ServingLimits, requests: Mapping[Modality, Request | None], modalities: Sequence[Modality]
    ) -> None:
        self.limits = limits
        self.requests = {modality: own for modality, own in requests.items() if own is not None and own.frames}
        decoder = Decoder(limits.media, tuple(modalities))
        self._workers = Workers(
            decoder, limits.decoders, limits.decoder_memory, limits.media.bytes, (Decoder.__module__,)
        )
        self._uploads: Uploads | None = None

    def start(self) -> None:
        """Makes the folder of requests' folders; warms the processes."""
        self._uploads = Uploads()
        self._workers.warm()

    def close(self) -> None:
        """Ends the processes and removes the folder."""
        self._workers.close()
        if self._uploads is not None:
            self._uploads.close()

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """Reads the media of one request, whose files are gone at the end of the block."""
        assert self._uploads is not None, "the reader hasn't started"
        with self._uploads.folder() as folder:
            yield Upload(self, folder, self._workers)

    def from_uri(self, url: Any, modality: Modality, where: str) -> Media:
        """A medium that comes by itself. See :meth:`Upload.from_uri`."""
        with self.upload() as upload:
            return upload.from_uri(url, modality, where)


class Upload:
    """The media of one request.

    Args:
        reader: whose limits count; the time for decoding is that of all of the request's media.
        folder: for their files.
        workers: decode.
    """

    def __init__(self, reader: Reader, folder: Path, workers: Workers) -> None:
        self.reader, self.folder, self.workers = reader, folder, workers
        self._left = reader.limits.decode_seconds
        self._count = 0

    def from_uri(self, url: Any, modality: Modality, where: str) -> Media:
        """The medium in a data URI.

        Raises:
            ApiError: an address instead, another type, or no base64; or its decoder was killed.
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
        self._check(len(text) * 3 // 4 - 2, where)
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{where}: found no base64; expected it. Fix: encode the file's bytes.", where) from None
        return self.from_bytes(data, ending, modality, where)

    def from_bytes(self, data: bytes, ending: str, modality: Modality, where: str) -> Media:
        """The medium in a file's bytes; ``ending`` is one of :data:`ENDINGS`. See :meth:`from_uri` for errors."""
        self._check(len(data), where)
        self._count += 1
        path = self.folder / f"{self._count}{ending}"
        path.write_bytes(data)
        return self._decoded(path, modality, where)

    def _check(self, size: int, where: str) -> None:
        if size > (most := self.reader.limits.media.bytes):
            raise invalid(f"{where}: found {size} bytes; expected at most {most} bytes. Fix: shrink it.", where)

    def _decoded(self, path: Path, modality: Modality, where: str) -> Media:
        limits, request = self.reader.limits, self.reader.requests.get(modality)

        def chosen(asked: Facts) -> list[int]:
            assert request is not None and request.frames is not None
            return [int(frame) for frame in request.frames(int(asked["frames"]), float(asked["rate"]))]

        task = {"path": str(path), "modality": str(modality), "where": where, "chosen": request is not None}
        begun = time.monotonic()
        try:
            facts = self.workers.run(task, max(self._left, 0.1), limits.seconds, chosen)
        except queue.Empty:
            raise ApiError(429, "All decoders are busy. Try again later.", code="busy") from None
        except WorkerEnded as ended:
            raise invalid(f"{where}: {self._worded(ended.reason)}", where, f"decoder_{ended.reason}") from None
        self._left -= time.monotonic() - begun
        if "refused" in facts:
            raise invalid(str(facts["refused"]), where)
        return decoded(path, facts, limits.media, modality, where)

    def _worded(self, reason: str) -> str:
        limits = self.reader.limits
        found, expected, fix = {
            "time": ("media that take too long to decode", f"{limits.decode_seconds:g} s in all", "shorten it"),
            "memory": (
                "a file that takes too much memory to decode",
                f"{limits.decoder_memory >> 20} MiB",
                "shrink it",
            ),
            "crash": ("a file at which its decoder broke off", "an intact file", "encode it again"),
        }[reason]
        return f"found {found}; expected {expected}. Fix: {fix}."


def to_uri(medium: Media) -> str:
    """A medium as a data URI of a file of its modality's first ending."""
    ending = medium.modality.spec.file_endings[0]
    return f"data:{TYPES.get(ending, 'application/octet-stream')};base64,{to_base64(medium)}"


def to_base64(medium: Media) -> str:
    """A medium's file in base64."""
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        path = save_media(medium, Path(folder) / f"medium{medium.modality.spec.file_endings[0]}")
        return base64.b64encode(path.read_bytes()).decode("ascii")
