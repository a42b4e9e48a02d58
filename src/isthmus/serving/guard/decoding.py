"""Decodes a file of a request in a worker. The array goes to the server as a file of its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.data.errors import DataError
from isthmus.data.media.audio import files as _audio  # noqa: F401 # forked workers have the decoders' libraries
from isthmus.data.media.files import read_media
from isthmus.data.media.images import files as _images  # noqa: F401 # likewise
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points import files as _points  # noqa: F401 # likewise
from isthmus.data.media.videos import files as _videos  # noqa: F401 # likewise
from isthmus.request import Request
from isthmus.serving.guard.worker import Ask, Facts
from isthmus.types import Media, Modality

TYPES = ("uint8", "float32")
"""Of media's arrays."""
SUFFIX = ".array"


@dataclass(frozen=True)
class Decoder:
    """The worker's side.

    Attributes:
        limits: caps on a medium.
        modalities: that are read. Pickled, those that aren't this package's name the modules that define them.
    """

    limits: MediaLimits
    modalities: Sequence[Modality]

    def __call__(self, task: Facts, ask: Ask) -> Facts:
        """Decodes ``path`` as ``modality``, under the name ``where``; ``chosen``: the server chooses the frames."""
        path = Path(task["path"])

        def frames(count: int, rate: float) -> Iterable[int]:
            chosen: list[int] = ask({"frames": count, "rate": rate})
            return chosen

        try:
            request = Request(frames) if task["chosen"] else None
            media = read_media(path, Modality(task["modality"]), self.limits, request=request)
        except DataError as error:
            raise DataError(error.fault, error.message.replace(str(path), task["where"])) from error
        array = np.ascontiguousarray(media.array)
        array.tofile(array_path(path))
        times = None if media.times is None else media.times.tolist()
        facts = {"shape": array.shape, "type": str(array.dtype), "rate": media.rate}
        return facts | {"times": times, "total": media.total}


def array_path(path: Path) -> Path:
    """Where a worker leaves what a file decodes to."""
    return path.with_name(f"{path.name}{SUFFIX}")


def decoded(path: Path, facts: Facts, limits: MediaLimits, modality: Modality, where: str) -> Media:
    """The server's side: the medium of a worker's file. What the worker says is checked, but for the values."""
    shape, kind = tuple(int(size) for size in facts["shape"]), facts["type"]
    assert kind in TYPES and all(size > 0 for size in shape)
    array = np.fromfile(array_path(path), dtype=kind)
    assert array.nbytes <= limits.bytes
    times = None if facts["times"] is None else np.asarray(facts["times"], dtype=np.float64)
    return Media(modality, array.reshape(shape), facts["rate"], where, times=times, total=facts["total"])
