"""A manifest: one medium a line, with its path, modality, caption, label and split."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from isthmus.data.conversations.records import JsonRecords
from isthmus.data.conversations.schema import Conversation, parse_conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import fault
from isthmus.data.formats.captions import Captions, Direction
from isthmus.data.formats.fields import mapping, text
from isthmus.data.formats.filters import kept_records
from isthmus.data.formats.strokes import Strokes
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.locations import resolve_path
from isthmus.data.media.points.columns import float32_cloud
from isthmus.data.media.points.files import read_rows
from isthmus.modalities import CLIP, CLOUD, is_medium, known_media
from isthmus.paths import user_path
from isthmus.types import Media, Modality

Answer = Literal["caption", "label"]

_ALIASES = {"pointcloud": "points", "point_cloud": "points", "3d": "points", "sound": "audio"}


class ManifestSource(ConversationSource):
    """JSON lines or an array of single media, each made into a description, or a wish and the medium.

        {"id": "7", "modality": "image", "path": "7.png", "caption": "a cat", "label": "cat", "split": "train"}
        {"id": "8", "modality": "points", "path": "clouds.npz", "row": 3, "caption": "a chair", "split": "train"}

    With ``row``, the medium is a part of its file: a row of the array ``points`` of an ``npz`` or of an ``npy``, or a
    line of pen strokes (``jsonl``), rendered as a video. Fields beyond these travel as the conversation's details.

    Args:
        path: the manifest.
        root: the folder that paths are relative to and can't leave; the manifest's own where none is given.
        modalities: only media of these; of every modality where none is given.
        splits: only these splits.
        labels: only these labels.
        answer: what a description says.
        direction: whether media are described, made, or both in turn.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        strokes: how pen strokes are rendered.
        limits: caps on files of many rows.

    Raises:
        ValueError: another option, nothing left by the filters, or see
            :class:`~isthmus.data.conversations.records.Records`.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        modalities: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        answer: Answer = "caption",
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        strokes: Strokes | None = None,
        limits: MediaLimits | None = None,
    ) -> None:
        if answer not in get_args(Answer):
            raise ValueError(f"answer: found {answer!r}; expected {' or '.join(get_args(Answer))}. Fix: choose one.")
        if unknown := [name for name in modalities or () if not is_medium(name)]:
            raise ValueError(
                f"{path}: modalities: found {unknown[0]!r}; expected some of {', '.join(known_media())}. Fix: rename "
                "it, or load what brings it, such as a config or a model with its encoder."
            )
        self.records = JsonRecords(path)
        self.root = self.records.path.parent if root is None else user_path(root)
        if not self.root.is_dir():
            raise ValueError(f"{path}: found no folder at root {self.root}; expected the media's. Fix: correct it.")
        self.name = self.root.name if self.records.path.stem == "manifest" else self.records.path.stem
        self.answer = answer
        self.captions = Captions(direction, describe, draw, seed)
        self.strokes = strokes or Strokes()
        self.limits = limits or MediaLimits()
        self._kept = kept_records(
            self.records, {"modality": modalities, "split": splits, "label": labels}, {"modality": self._modality}
        )

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def files(self) -> Sequence[Path]:
        return [self.records.path]

    def __getitem__(self, index: int) -> Conversation:
        """The ``index``-th record that the filters leave.

        Raises:
            DataError: the record isn't of the format, or its medium isn't there or can't be read.
        """
        raw, where = self.records.raw(self._kept[index])
        record = mapping(raw, where)
        modality = self._modality(record, where)
        path = text(record, ["path"], where)
        caption = text(record, ["caption", "label"], where)
        said = text(record, [self.answer], where) if self.answer == "label" else None
        medium: str | Media = path if record.get("row") is None else self._row(record, modality, path, where)
        chat = self.captions.chat(modality, medium, caption, self._kept[index], where, said)
        known = {key: value for key, value in record.items() if key not in ("path", "row", "modality")}
        return parse_conversation({**chat, **known}, where, self.root)

    def media_in(self, index: int) -> Collection[Modality]:
        raw, where = self.records.raw(self._kept[index])
        return {self._modality(mapping(raw, where), where)}

    def where(self, index: int) -> str:
        return self.records.where(self._kept[index])

    def _modality(self, record: Any, where: str) -> Modality:
        said = text(record, ["modality"], where).lower()
        name = _ALIASES.get(said, said)
        if not is_medium(name):
            raise fault(f"{where}: modality", f"found {said!r}", f"one of {', '.join(known_media())}", "rename it")
        return Modality(name)

    def _row(self, record: Any, modality: Modality, name: str, where: str) -> Media:
        row = record["row"]
        if isinstance(row, bool) or not isinstance(row, int) or row < 0:
            raise fault(f"{where}: row", f"found {str(row)[:40]!r}", "a number from 0", "fix it")
        path = resolve_path(name, self.root, where)
        self.limits.check(path, bytes=path.stat().st_size)
        ending = path.suffix.lower()
        if modality.kind is CLIP and ending == ".jsonl":
            return self.strokes.read(path, row, where)
        if modality.kind is CLOUD and ending in (".npz", ".npy"):
            rows = _rows(path, path.stat().st_mtime_ns, self.limits)
            if row >= len(rows):
                raise fault(f"{where}: row", f"found {row} of {len(rows)} in {path}", "a row that is there", "fix it")
            points = float32_cloud(rows[row], f"{path}[{row}]", self.limits)
            return Media(modality, points, source=f"{path}[{row}]")
        expected = "points in .npz or .npy, or video in .jsonl"
        raise fault(f"{where}: row", f"found a row of {modality} in {ending or 'a file'}", expected, "leave row out")


@lru_cache(maxsize=4)
def _rows(path: Path, changed: int, limits: MediaLimits) -> np.ndarray[Any, Any]:
    """All clouds of a file, decompressed once a process and anew when the file has changed."""
    return read_rows(path, limits)
