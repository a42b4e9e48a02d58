"""Limits of media, checked against a file's header before anything is decoded, and again while decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.data.errors import DataError, Fault, is_machines


@dataclass(frozen=True)
class MediaLimits:
    """Caps on one medium.

    Attributes:
        pixels: of an image, or of one frame of a video.
        seconds: of audio or video.
        frames: of a video.
        points: of a point cloud.
        bytes: of the file, and of the array that it decodes to.
        broken_points: the most points with non-finite values, which are left out; with more a cloud is refused.
        broken_frames: the most broken frames of an MP3 or similar stream, which are skipped; with more it is refused.
    """

    pixels: int = 64_000_000
    seconds: float = 600.0
    frames: int = 4096
    points: int = 4_000_000
    bytes: int = 1 << 30
    broken_points: int = 0
    broken_frames: int = 3

    def __post_init__(self) -> None:
        for name in ("pixels", "seconds", "frames", "points", "bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"limits.{name}: found {getattr(self, name)}; expected a number above 0. Fix: raise it."
                )
        for name in ("broken_points", "broken_frames"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"limits.{name}: found {getattr(self, name)}; expected 0 or more. Fix: raise it.")

    def check(self, path: Path | str, **measured: float) -> None:
        """Compares measurements with the caps of the same names.

        Raises:
            DataError: one exceeds its cap.
        """
        for name, value in measured.items():
            cap = getattr(self, name)
            if value > cap:
                raise DataError(
                    Fault.LIMIT,
                    f"{path}: found {value:g} {name}; expected at most {cap:g}. Fix: shrink the file, or raise "
                    f"limits.{name}.",
                )


def corrupt(path: Path | str, kind: str, reason: object, fix: str) -> DataError:
    """The error of a file that can't be decoded.

    Raises:
        MemoryError, OSError: the reason, where it tells of the machine and not of the file; see
            :func:`isthmus.data.errors.is_machines`.
    """
    if isinstance(reason, Exception) and is_machines(reason):
        raise reason
    return DataError(
        Fault.CORRUPT, f"{path}: found no readable {kind} ({reason}); expected an intact file. Fix: {fix}."
    )
