"""Reads the media of requests: data URIs, base64, bytes, and addresses of hosts that are allowed."""

from __future__ import annotations

import base64
import binascii
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from isthmus.request import Request
from isthmus.serving.errors import invalid
from isthmus.serving.guard.decoding import Decoder, array_path, decoded
from isthmus.serving.guard.fetching import Fetcher
from isthmus.serving.guard.patience import Patience
from isthmus.serving.guard.uploads import Uploads
from isthmus.serving.guard.worker import Facts
from isthmus.serving.guard.workers import WorkerEnded, Workers
from isthmus.serving.limits import ServingLimits
from isthmus.serving.media import ENDINGS, TYPES, URI
from isthmus.types import Media, Modality

FETCHER_MEMORY = 256 << 20
"""Bytes of a process that fetches."""
STEP_SECONDS = 5.0
"""For each step of a connection to a host that is fetched from."""


class Reader:
    """Reads media in processes that are killed if they take too much time or memory.

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
        most, preload = limits.media.bytes, (Decoder.__module__, Fetcher.__module__)
        decoder = Decoder(limits.media, tuple(modalities))
        self.decoders = Workers(decoder, limits.decoders, limits.decoder_memory, most, preload)
        fetcher = Fetcher(limits.fetch, most, STEP_SECONDS)
        self.fetchers = Workers(fetcher, limits.decoders, FETCHER_MEMORY, most, preload)
        self._uploads: Uploads | None = None

    def start(self) -> None:
        """Makes the folder of requests' folders, and warms the processes."""
        self._uploads = Uploads()
        self.decoders.warm()
        if self.limits.fetch:
            self.fetchers.warm()

    def close(self) -> None:
        """Ends the processes and removes the folder."""
        self.decoders.close()
        self.fetchers.close()
        if self._uploads is not None:
            self._uploads.close()

    @contextmanager
    def upload(self, patience: Patience | None = None) -> Iterator[Upload]:
        """Reads the media of one request, whose files are gone at the end of the block.

        Args:
            patience: of the request; if None it begins now.
        """
        assert self._uploads is not None, "the reader hasn't started"
        with self._uploads.folder() as folder:
            yield Upload(self, folder, patience or Patience(self.limits.seconds))

    def from_uri(self, url: Any, modality: Modality, where: str) -> Media:
        """A medium that comes by itself. See :meth:`Upload.from_uri`."""
        with self.upload() as upload:
            return upload.from_uri(url, modality, where)


class Upload:
    """The media of one request, which have room in common, a time for decoding, and one for fetching.

    Args:
        reader: whose processes and limits are used.
        folder: for files, of which each is gone once it is read.
        patience: of the request.
    """

    def __init__(self, reader: Reader, folder: Path, patience: Patience) -> None:
        self.reader, self.limits, self.folder, self.patience = reader, reader.limits, folder, patience
        self._room = self.limits.media_megabytes << 20
        self._left = {"decoder": self.limits.decode_seconds, "fetch": self.limits.fetch_seconds}
        self._count = 0

    def from_uri(self, url: Any, modality: Modality, where: str) -> Media:
        """The medium in a data URI, or at an address of a host that is allowed.

        Raises:
            ApiError: another address or type, no base64, or what can't be decoded within the limits.
        """
        if self.limits.fetch and isinstance(url, str) and url[:6].lower() == "https:":
            return self._fetched(url, modality, where)
        found = URI.match(url[:200]) if isinstance(url, str) else None
        if found is None:
            scheme = url.partition(":")[0][:20] if isinstance(url, str) else type(url).__name__
            fetched = f"only addresses at {', '.join(self.limits.fetch)}" if self.limits.fetch else "no addresses"
            raise invalid(
                f"{where}: found '{scheme}'; expected a data URI, as data:image/png;base64,... since this server "
                f"fetches {fetched}. Fix: send the file's content.",
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
        self._take(len(data), where)
        path = self._path(ending)
        path.write_bytes(data)
        return self._decoded(path, modality, where)

    def _path(self, ending: str) -> Path:
        self._count += 1
        return self.folder / f"{self._count}{ending}"

    def _check(self, size: int, where: str) -> None:
        if size > (most := self.limits.media.bytes):
            raise invalid(f"{where}: found {size} bytes; expected at most {most} bytes. Fix: shrink it.", where)

    def _take(self, size: int, where: str) -> None:
        """Takes bytes of the room that all media of the request have, before they are written or read."""
        self._room -= size
        if self._room < 0:
            most = f"{self.limits.media_megabytes} MiB, with what they decode to"
            found = f"{where}: found more than the media of a request may have in all; expected at most {most}"
            raise invalid(f"{found}. Fix: send fewer or smaller ones.", where)

    def _fetched(self, url: str, modality: Modality, where: str) -> Media:
        path = self._path("")
        facts = self._run("fetch", self.reader.fetchers, {"url": url, "path": str(path), "where": where}, where)
        ending = PurePosixPath(str(facts["name"])).suffix.lower()
        ending = ENDINGS.get(str(facts["type"]), ending if ending in TYPES else "")
        if not ending:
            found = f"{where}: found the type {str(facts['type'])[:40]}"
            raise invalid(f"{found}; expected one of {', '.join(ENDINGS)}. Fix: send the file's content.", where)
        self._take(path.stat().st_size, where)
        return self._decoded(path.rename(path.with_suffix(ending)), modality, where)

    def _decoded(self, path: Path, modality: Modality, where: str) -> Media:
        request = self.reader.requests.get(modality)

        def chosen(asked: Facts) -> list[int]:
            assert request is not None and request.frames is not None
            return [int(frame) for frame in request.frames(int(asked["frames"]), float(asked["rate"]))]

        task = {"path": str(path), "modality": str(modality), "where": where, "chosen": request is not None}
        try:
            facts = self._run("decoder", self.reader.decoders, task, where, chosen)
            self._take(array_path(path).stat().st_size, where)
            return decoded(path, facts, self.limits.media, modality, where)
        finally:
            path.unlink(missing_ok=True)
            array_path(path).unlink(missing_ok=True)

    def _run(
        self, what: str, workers: Workers, task: Facts, where: str, answer: Callable[[Facts], Any] | None = None
    ) -> Facts:
        self.patience.check()
        try:
            most = max(min(self._left[what], self.patience.left), 0.1)
            facts, seconds = workers.run(task, most, self.patience.left, answer)
        except (queue.Empty, WorkerEnded) as ended:
            self.patience.check()
            assert isinstance(ended, WorkerEnded), "none was free in time"
            raise invalid(self._worded(ended.reason, what, where), where, f"{what}_{ended.reason}") from None
        self._left[what] -= seconds
        if "refused" in facts:
            raise invalid(str(facts["refused"]), where)
        return facts

    def _worded(self, reason: str, what: str, where: str) -> str:
        limits = self.limits
        found, expected, fix = {
            ("decoder", "time"): ("media that decode slowly", f"{limits.decode_seconds:g} s in all", "shorten them"),
            ("decoder", "memory"): ("a file that decodes to much", f"{limits.decoder_memory >> 20} MiB", "shrink it"),
            ("fetch", "time"): (
                "an address that answers slowly",
                f"{limits.fetch_seconds:g} s in all",
                "send the file",
            ),
        }.get((what, reason), ("a file at which the reader broke off", "an intact file", "encode it again"))
        return f"{where}: found {found}; expected {expected}. Fix: {fix}."
