"""Reads and writes media files of every modality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from isthmus.data.errors import DataError, Fault, data_faults
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.locations import resolve_path
from isthmus.data.media.stored import StoredFile
from isthmus.data.retries import DISK
from isthmus.paths import user_path
from isthmus.request import Request
from isthmus.types import Media, Modality

DEFAULT_LIMITS = MediaLimits()

ENDINGS: dict[Modality, tuple[str, ...]] = {
    Modality.IMAGE: (".png",),
    Modality.VIDEO: (".mp4", ".mkv", ".gif"),
    Modality.AUDIO: (".wav",),
    Modality.POINTS: (".npy",),
}
"""Suffixes of the formats that :func:`save_media` writes."""


def read_media(
    path: str | Path | StoredFile,
    modality: Modality,
    limits: MediaLimits = DEFAULT_LIMITS,
    root: Path | None = None,
    sample_rate: float | None = None,
    request: Request | None = None,
) -> Media:
    """Decodes a file, after its header has passed the limits. Nothing is fetched from a network or unpickled.

    Args:
        path: relative to ``root``, which it can't leave; a trusted path if there is no root; or a shard's file.
        modality: as which the file is read.
        limits: caps on its size.
        root: the folder that holds it.
        sample_rate: to which audio is resampled; ignored for other media.
        request: the part to decode, to which limits then apply, however long the file is. None: everything.

    Raises:
        DataError: the path leaves the root, the file is absent or exceeds a limit, or it can't be decoded.
    """
    if isinstance(path, StoredFile):
        return _read_stored(path, modality, limits, sample_rate, request)
    resolved = resolve_path(path, root, str(path))
    with data_faults(str(resolved)):
        return DISK.run(str(resolved), lambda: _read(resolved, modality, limits, sample_rate, request))


def _read(
    resolved: Path, modality: Modality, limits: MediaLimits, sample_rate: float | None, request: Request | None
) -> Media:
    if modality is not Modality.VIDEO or request is None or request.frames is None:
        limits.check(resolved, bytes=resolved.stat().st_size)
    return _decoded(resolved, modality, limits, sample_rate, request)


def _decoded(
    resolved: Path, modality: Modality, limits: MediaLimits, sample_rate: float | None, request: Request | None
) -> Media:
    # A modality's library is imported on first use.
    match modality:
        case Modality.IMAGE:
            from isthmus.data.media.images.files import read_image

            return read_image(resolved, limits, request)
        case Modality.VIDEO:
            from isthmus.data.media.videos.files import read_video

            return read_video(resolved, limits, request)
        case Modality.AUDIO:
            from isthmus.data.media.audio.files import read_audio

            return read_audio(resolved, limits, sample_rate)
        case Modality.POINTS:
            from isthmus.data.media.points.files import read_points

            return read_points(resolved, limits)
        case _:
            raise DataError(
                Fault.SCHEMA, f"{resolved}: found {modality}; expected a medium. Fix: text isn't read from files."
            )


def _read_stored(
    file: StoredFile, modality: Modality, limits: MediaLimits, sample_rate: float | None, request: Request | None
) -> Media:
    limits.check(file.name, bytes=len(file.data))
    with file.on_disk() as path:
        try:
            media = read_media(path, modality, limits, None, sample_rate, request)
        except DataError as error:
            # The message names the shard's file instead of the temporary one.
            message = error.message.replace(str(path.resolve()), file.name).replace(str(path), file.name)
            raise DataError(error.fault, message) from error
    return replace(media, source=file.name)


def save_media(media: Media, path: str | Path) -> Path:
    """Writes image ``.png``; video ``.mp4`` (H.264), ``.mkv`` (lossless) or ``.gif``; audio ``.wav``; points ``.npy``.

    Raises:
        ValueError: the suffix isn't one of the modality's.
    """
    target = user_path(path)
    endings = ENDINGS[media.modality]
    if target.suffix.lower() not in endings:
        raise ValueError(
            f"{target}: found the ending {target.suffix!r} for {media.modality}; "
            f"expected {' or '.join(endings)}. Fix: rename the target."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    match media.modality:
        case Modality.IMAGE:
            from isthmus.data.media.images.files import write_image

            write_image(media, target)
        case Modality.VIDEO:
            from isthmus.data.media.videos.files import write_video

            write_video(media, target)
        case Modality.AUDIO:
            from isthmus.data.media.audio.files import write_audio

            write_audio(media, target)
        case _:
            from isthmus.data.media.points.files import write_points

            write_points(media, target)
    return target
