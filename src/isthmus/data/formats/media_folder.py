"""Folders of media: with a table of captions in them, or sorted into one folder a class."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

from isthmus.data.conversations.records import CsvRecords, JsonRecords, Records
from isthmus.data.errors import fault
from isthmus.data.formats.base import RecordSource
from isthmus.data.formats.captions import Captions, Direction
from isthmus.data.formats.columns import Columns
from isthmus.data.formats.endings import modality_of
from isthmus.data.formats.fields import mapping, texts
from isthmus.data.formats.file_sets import listed_files
from isthmus.data.formats.filters import kept_records
from isthmus.paths import shipped_path

TABLES = ("metadata.jsonl", "metadata.csv")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "validation": "validation"}
SPLITS |= {"valid": "validation", "val": "validation", "dev": "validation"}


class MediaFolder(RecordSource):
    """What Hugging Face's library calls an ImageFolder, AudioFolder or VideoFolder; and so for points.

        photos/train/metadata.jsonl    {"file_name": "1.jpg", "text": "a cat"}
        photos/train/1.jpg
        animals/test/cat/1.jpg

    Tables (``metadata.jsonl`` or ``.csv``, each beside its media or above them) name a row's media under ``file_name``
    or ``file_names``, or, with what they are called, under ``image_file_name`` and the like; what else a row says is
    told by its fields' names, see :class:`~isthmus.data.formats.hugging_face.HuggingFace`. Without a table the folder
    that a file lies in is its label. A folder ``train``, ``validation`` or ``test`` on the way is a split.

    Args:
        path: the folder. Media can't lie outside of it.
        columns: role -> field, where a guess fails, as ``{caption: alt_text}``.
        splits: only these.
        direction: whether captioned media are described, made, or both in turn.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: no such folder, nothing in it, or none of the splits.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Mapping[str, str | list[str]] | None = None,
        splits: Sequence[str] | None = None,
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        target_files: bool = True,
    ) -> None:
        place = shipped_path(path)
        if not place.is_dir():
            raise ValueError(f"{place}: found no folder; expected one of media. Fix: correct the path.")
        tables = listed_files(place, TABLES)
        records: TableRows | SortedFiles = TableRows(place, tables) if tables else SortedFiles(place)
        self.columns = Columns(columns, Captions(direction, describe, draw, seed), where=str(path))
        super().__init__(records, place, target_files, kept_records(records, {"split": splits}))
        self.name = place.name

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        return self.columns.chat(raw, where, index)


class TableRows:
    """The rows of a folder's tables, one table after the other, with their media's paths below the folder."""

    def __init__(self, path: Path, tables: Sequence[Path]) -> None:
        self.path = path
        self.tables: list[Records] = [
            JsonRecords(table) if table.suffix == ".jsonl" else CsvRecords(table) for table in tables
        ]
        self._ends = list(accumulate(map(len, self.tables)))

    def __len__(self) -> int:
        return self._ends[-1]

    def raw(self, index: int) -> tuple[dict[str, Any], str]:
        """A row in which the fields that name files are media.

        Raises:
            DataError: it is no row, or names no file.
        """
        table, place = self._at(index)
        raw, where = table.raw(place)
        row = dict(mapping(raw, where))
        folder = table.path.parent.relative_to(self.path).as_posix()
        named = [name for name in row if name.endswith(("file_name", "file_names"))]
        if not named:
            raise fault(where, f"found the fields {', '.join(row)[:200]}", "file_name", "name the file so")
        for name in named:
            for file in texts(row, [name], where):
                kind = modality_of(file)
                if kind is None:
                    raise fault(f"{where}: {name}", f"found {file[:80]!r}", "a medium's file", "correct its ending")
                called = name.removesuffix("s").removesuffix("file_name").rstrip("_") or str(kind)
                row.setdefault(called, [])
                row[called] = [*row[called], str(PurePosixPath(folder) / file)]
            del row[name]
        if "split" not in row and (split := _split(folder)):
            row["split"] = split
        return row, where

    def where(self, index: int) -> str:
        """The table and the line."""
        table, place = self._at(index)
        return table.where(place)

    def _at(self, index: int) -> tuple[Records, int]:
        index = range(len(self))[index]
        number = bisect_right(self._ends, index)
        return self.tables[number], index - (self._ends[number - 1] if number else 0)


class SortedFiles:
    """The media below a folder by name, each labelled by the folder that it lies in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = listed_files(path, ("",))
        self.files = [one.relative_to(path).as_posix() for one in found if modality_of(one.name) is not None]
        if not self.files:
            raise ValueError(
                f"{path}: found neither {' nor '.join(TABLES)}, nor media; expected one of them. Fix: name another."
            )

    def __len__(self) -> int:
        return len(self.files)

    def raw(self, index: int) -> tuple[dict[str, Any], str]:
        """A file with its label, and perhaps its split.

        Raises:
            DataError: it lies in no class's folder.
        """
        name = self.files[index]
        folder = PurePosixPath(name).parent
        if not folder.name or folder.name in SPLITS:
            raise fault(
                self.where(index),
                "found neither a caption nor a class's folder around it",
                f"{' or '.join(TABLES)} beside it, or one folder a class",
                "write the table with a caption for each file, or sort the files",
            )
        split = _split(folder.parent.as_posix())
        row = {str(modality_of(name)): name, "label": folder.name, "id": name}
        return {**row, **({"split": split} if split else {})}, self.where(index)

    def where(self, index: int) -> str:
        """The file."""
        return str(self.path / self.files[index])


def _split(folder: str) -> str:
    """The split that a folder's path names; nothing where it names none."""
    return next((SPLITS[part] for part in PurePosixPath(folder).parts if part in SPLITS), "")
