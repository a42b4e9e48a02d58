"""ModelNet40: clouds of 40 kinds of objects, to be named.

Sources: Wu et al., arXiv 1406.5670; the resampled clouds with normals of PointNet++ (arXiv 1706.02413); the choice of
8,192 points of Point-BERT (arXiv 2111.14819) and the question of PointLLM (arXiv 2308.16911).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.arrays.npy import read_npy, read_npz
from isthmus.data.derived import derived_file
from isthmus.data.errors import data_faults, fault
from isthmus.data.formats.benchmarks.base import Benchmark, HeldRecords, asked
from isthmus.data.formats.fields import Item
from isthmus.data.media.deferred import DeferredMedia
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.locations import resolve_path
from isthmus.data.media.points.columns import float32_cloud
from isthmus.data.media.points.files import read_rows
from isthmus.paths import user_path
from isthmus.types import Media, Modality

POINTS = 8192
INSTRUCTION = "What is this?"

Array = np.ndarray[Any, Any]
_LIMITS = MediaLimits()


class ModelNet40(Benchmark):
    """Clouds with the names of their classes.

        modelnet40_shape_names.txt     airplane, a line each, in the order of their numbers
        modelnet40_test.txt            airplane_0627, a line each
        airplane/airplane_0627.txt     x,y,z,nx,ny,nz a line, 10,000 of them; or airplane_0627.npy, (points, 3 or more)
        modelnet40_test_8192pts_fps.npz    instead of these: points (rows, points, 3 or 6) and labels (rows,)

    Point-BERT's and PointLLM's ``.dat`` files are pickled, which runs code, so they are never read;
    docs/public_benchmarks.md has the line that makes an ``.npz`` of one. The details hold ``label`` (the class's name,
    with spaces), ``choices`` (all names) and ``id``.

    Args:
        path: the folder, ``modelnet40_normal_resampled``.
        split: ``test`` or ``train``.
        points: how many are taken of a file with more, each the farthest from those before it, beginning with the
            first. What was chosen is kept in the cache's folder. Normals are left out.
        instruction: what is asked.

    Raises:
        ValueError: a file of the layout isn't there, or a label without a name.
    """

    def __init__(
        self, path: str | Path, split: str = "test", points: int = POINTS, instruction: str = INSTRUCTION
    ) -> None:
        if points < 1:
            raise ValueError(f"points: found {points}; expected at least 1. Fix: raise it.")
        folder = user_path(path)
        names_file = folder / "modelnet40_shape_names.txt"
        self.names = _lines(names_file)
        self.points, self.instruction = points, instruction
        packed = sorted(folder.glob(f"modelnet40_{split}_*.npz"))
        list_file = packed[0] if packed else folder / f"modelnet40_{split}.txt"
        records = _of_rows(list_file, self.names) if packed else _named(list_file)
        chosen = {"split": split, "points": points, "instruction": instruction}
        super().__init__(HeldRecords(list_file, records), folder, chosen, [names_file])

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        if isinstance(raw, int):
            label = self.names[int(_labels(self.records.path, self.records.path.stat().st_mtime_ns)[raw])]
            name, medium = f"{self.records.path.stem}/{raw}", self._row(raw)
        else:
            name, label = str(raw), str(raw).rpartition("_")[0]
            medium = self._cloud(label, name, where)
        if label not in self.names:
            raise fault(where, f"found the class {label[:40]!r}", f"one of {', '.join(self.names)[:200]}", "correct it")
        choices = [_spoken(one) for one in self.names]
        content: list[Item] = [{"type": "points", "points": medium}, {"type": "text", "text": self.instruction}]
        known = {"id": name, "label": _spoken(label), "choices": choices}
        return {**known, "messages": asked(content, _spoken(label))}

    def media_in(self, index: int) -> Collection[Modality]:
        return {Modality.POINTS}

    def _cloud(self, label: str, name: str, where: str) -> Media:
        endings = [ending for ending in (".npy", ".txt") if (self.root / label / f"{name}{ending}").is_file()]
        path = resolve_path(f"{label}/{name}{endings[0] if endings else '.txt'}", self.root, where)
        facts, points = path.stat(), self.points
        content = f"{path} {facts.st_size} {facts.st_mtime_ns} {points}"
        return DeferredMedia(Modality.POINTS, content, lambda: _read(path, points))

    def _row(self, row: int) -> Media:
        path, points = self.records.path, self.points
        facts = path.stat()

        def make() -> Media:
            rows = _clouds(path, facts.st_mtime_ns)
            cloud = float32_cloud(rows[row][:, :3], f"{path}[{row}]", _LIMITS)
            return Media(Modality.POINTS, farthest(cloud, points), source=f"{path}[{row}]")

        return DeferredMedia(Modality.POINTS, f"{path} {facts.st_size} {facts.st_mtime_ns} {row} {points}", make)


def farthest(cloud: Array, count: int) -> Array:
    """(P, 3) -> (count, 3): points that are far apart, in the order of their choice; the cloud itself if it has fewer.

    Point-BERT begins with a drawn point; here it is the first, so that the choice is the same each time.
    """
    if len(cloud) <= count:
        return cloud
    places = np.ascontiguousarray(cloud.T, dtype=np.float64)
    chosen = np.zeros(count, dtype=np.int64)
    distances = np.full(len(cloud), np.inf)
    for step in range(1, count):
        apart = places - places[:, chosen[step - 1], None]
        np.minimum(distances, np.einsum("ij,ij->j", apart, apart), out=distances)
        chosen[step] = distances.argmax()
    result: Array = cloud[chosen]
    return result


def _read(path: Path, points: int) -> Media:
    """A file's cloud, its points chosen when it is first read."""

    def make(aside: Path) -> None:
        if path.suffix == ".npy":
            array = read_npy(path, lambda shape, size: _LIMITS.check(path, points=shape[0] if shape else 0, bytes=size))
        else:
            _LIMITS.check(path, bytes=path.stat().st_size)
            array = np.loadtxt(path, delimiter=",", ndmin=2)
        if array.ndim != 2 or array.shape[1] < 3:
            raise fault(path, f"found an array {array.shape}", "(points, 3 or more)", "copy the file anew")
        with aside.open("wb") as file:
            np.save(file, farthest(float32_cloud(array[:, :3], str(path), _LIMITS), points), allow_pickle=False)

    with data_faults(str(path)):
        chosen = derived_file(path, f"{points} farthest points", make)
        return Media(Modality.POINTS, read_npy(chosen, lambda shape, size: None), source=str(path))


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(
            f"{path}: found no file; expected one line a class or cloud, as in modelnet40_normal_resampled. Fix: give "
            "that folder."
        )
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]


def _named(path: Path) -> Iterator[tuple[str, str | int]]:
    yield from ((f"line {number}", name) for number, name in enumerate(_lines(path), 1))


def _of_rows(path: Path, names: list[str]) -> Iterator[tuple[str, str | int]]:
    labels = _labels(path, path.stat().st_mtime_ns)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
        raise ValueError(
            f"{path}: labels: found {labels.min()} to {labels.max()}; expected 0 to {len(names) - 1}, the lines of "
            "modelnet40_shape_names.txt. Fix: give both of one set."
        )
    for row in range(len(labels)):
        yield f"row {row}", row


@lru_cache(maxsize=2)
def _labels(path: Path, changed: int) -> Array:
    """The numbers of the classes of a packed file, anew when it has changed."""
    arrays, keys = read_npz(path, lambda shape, size: _LIMITS.check(path, bytes=size), ("labels",))
    if "labels" not in arrays or arrays["labels"].dtype.kind not in "iu":
        raise ValueError(f"{path}: found {', '.join(keys)}; expected points and labels. Fix: save both.")
    return arrays["labels"].reshape(-1)


@lru_cache(maxsize=2)
def _clouds(path: Path, changed: int) -> Array:
    """All clouds of a packed file, read once a process and anew when it has changed."""
    return read_rows(path, _LIMITS)


def _spoken(name: str) -> str:
    return name.replace("_", " ")
