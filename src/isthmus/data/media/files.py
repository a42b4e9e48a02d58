"""Reads and writes media files of every modality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from isthmus.data.errors import DataError, data_faults
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.locations import resolve_path
from isthmus.data.media.stored import StoredFile
from isthmus.data.readers import Asked
from isthmus.data.retries import DISK
from isthmus.paths import user_path
from isthmus.request import Request
from isthmus.types import Media, Modality

DEFAULT_LIMITS = MediaLimits()


def read_media(
    path: str | Path | StoredFile,
    modality: Modality,
    limits: MediaLimits = DEFAULT_LIMITS,
    root: Path | None = None,
    sample_rate: float | None = None,
    request: Request | None = None,
    rate: float | None = None,
) -> Media:
    """Decodes a file, after its header has passed the limits. Nothing is fetched from a network or unpickled.

    Args:
        path: relative to ``root``, which it can't leave; a trusted path if there is no root; or a shard's file.
        modality: as which the file is read.
        limits: caps on its size.
        root: the folder that holds it.
        sample_rate: to which audio is resampled; ignored for other media.
        request: the part to decode, to which limits then apply, however long the file is. None: everything.
        rate: samples per second of a series whose file doesn't say it.

    Raises:
        DataError: the path leaves the root, the file is absent or exceeds a limit, or it can't be decoded.
    """
    if isinstance(path, StoredFile):
        return _read_stored(path, modality, limits, sample_rate, request, rate)
    resolved = resolve_path(path, root, str(path))
    with data_faults(str(resolved)):
        asked = Asked(Modality(modality), limits, request, sample_rate, rate)
        return DISK.run(str(resolved), lambda: _read(resolved, asked))


def _read(resolved: Path, asked: Asked) -> Media:
    spec, request = asked.modality.spec, asked.request
    if request is None or spec.kind.asks is None or getattr(request, spec.kind.asks) is None:
        asked.limits.check(resolved, bytes=resolved.stat().st_size)
    media: Media = spec.function("read")(resolved, asked)
    asked.limits.check(resolved, **spec.kind.sizes(media.array, media.rate))
    return media


def _read_stored(
    file: StoredFile,
    modality: Modality,
    limits: MediaLimits,
    sample_rate: float | None,
    request: Request | None,
    rate: float | None,
) -> Media:
    limits.check(file.name, bytes=len(file.data))
    with file.on_disk() as path:
        try:
            media = read_media(path, modality, limits, None, sample_rate, request, rate)
        except DataError as error:
            # The message names the shard's file instead of the temporary one.
            message = error.message.replace(str(path.resolve()), file.name).replace(str(path), file.name)
            raise DataError(error.fault, message) from error
    return replace(media, source=file.name)


def save_media(media: Media, path: str | Path) -> Path:
    """Writes a file of an ending that the modality has.

    Image ``.png``; video ``.mp4`` (H.264), ``.mkv`` (lossless) or ``.gif``; audio ``.wav``; points and grids ``.npy``;
    series ``.npz``.

    Raises:
        ValueError: the suffix isn't one of the modality's.
    """
    target = user_path(path)
    endings = media.modality.spec.file_endings
    if target.suffix.lower() not in endings:
        raise ValueError(
            f"{target}: found the ending {target.suffix!r} for {media.modality}; "
            f"expected {' or '.join(endings)}. Fix: rename the target."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    media.modality.spec.function("write")(media, target)
    return target
