"""Hugging Face's datasets: a saved folder, Parquet or Arrow files, or, where that is asked for, a set on the hub."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.data.errors import LONGEST_REASON
from isthmus.data.formats.base import RecordSource
from isthmus.data.formats.captions import Captions, Direction
from isthmus.data.formats.columns import Columns
from isthmus.data.formats.file_sets import listed_files, of_splits
from isthmus.data.formats.table_files import TableFiles, need_pyarrow
from isthmus.data.sampling.orders import Chunks
from isthmus.paths import user_path

_TABLES = (".parquet", ".pq", ".arrow", ".feather")


class HuggingFace(RecordSource):
    """Rows of tables with their media inside, as sets on the hub have them.

        {"image": {"bytes": ..., "path": "1.jpg"}, "conversations": [{"from": "human", "value": "<image>What?"}, ...]}
        {"images": [{"bytes": ...}], "texts": [{"user": "What?", "assistant": "A cat."}]}
        {"jpg": {"bytes": ...}, "txt": "a cat"}

    Columns are found by their names (see :mod:`isthmus.data.formats.columns`), or named in ``columns``. Media are
    bytes in a row (features ``Image``, ``Audio`` and ``Video``), paths below ``root``, or clouds as lists of numbers;
    they are read by this package's own readers, under its limits. Needs the extra ``datasets``.

    Args:
        path: a folder of ``save_to_disk``; a Parquet or Arrow file, a folder of such or a pattern, as
            ``data/*.parquet``; or with ``hub`` a set's name, as ``HuggingFaceM4/the_cauldron``.
        root: the folder that paths of media are relative to and can't leave; the tables' own where none is given.
        columns: role -> column, as ``{caption: alt_text}``, where a guess fails. Roles: messages, question, answer,
            caption, label, system, id, split, and media: image, video, audio, points, or one that a part brings.
        splits: only these: of a saved ``DatasetDict`` or a set on the hub by their names, else by the column of splits,
            else by words of the files' names, as ``train-00000-of-00010.parquet``.
        hub: whether ``path`` is a set's name, which may then be fetched by the library. Nothing else is ever fetched.
        subset: of a set on the hub that has several.
        revision: of a set on the hub: a branch, tag or commit.
        window: of Parquet files, how many row groups are mixed with one another at a time. They are then held in
            memory, and none is unpacked to disk.
        direction: whether captioned media are described, made, or both in turn.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: the extra isn't installed, there are no tables, or no columns that can be told.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        columns: Mapping[str, str | list[str]] | None = None,
        splits: Sequence[str] | None = None,
        hub: bool = False,
        subset: str | None = None,
        revision: str | None = None,
        window: int | None = None,
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        target_files: bool = True,
    ) -> None:
        need_pyarrow(path)
        named = _of_hub(str(path), subset, revision) if hub else _of_disk(path)
        if splits and all(named):
            named = {split: named[split] for split in _asked(splits, list(named), str(path))}
        files = [file for of in named.values() for file in of]
        tables, self._files = TableFiles(files), files
        self.columns = Columns(
            columns, Captions(direction, describe, draw, seed), tables.names, tables.labels, str(path)
        )
        kept: Sequence[int] | None = None
        if splits and not all(named):
            if column := self.columns.field("split", tables.names):
                kept = _rows(tables, column, splits)
            else:
                tables = TableFiles(_of_words(files, splits, user_path(path)))
        used = self.columns.used(tables.names)
        tables.read = [name for name in tables.names if name in used or name in tables.plain]
        tables.window = window
        place = tables.files[0] if hub else user_path(path)
        own = place if place.is_dir() else tables.files[0].parent
        super().__init__(tables, own if root is None else root, target_files, kept)
        self.name = str(path).rstrip("/").rpartition("/")[2] if hub else user_path(path).stem
        self._chunks = None
        if window is not None:
            sizes = [0] * len(tables.ends)
            for index in self._kept:
                sizes[bisect_right(tables.ends, index)] += 1
            self._chunks = Chunks(tuple(sizes), window)

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        return self.columns.chat(raw, where, index)

    @property
    def files(self) -> Sequence[Path]:
        return self._files

    @property
    def chunks(self) -> Chunks | None:
        return self._chunks


def _of_disk(path: str | Path) -> dict[str, list[Path]]:
    """The tables at a path by split; under an empty name where splits aren't told apart."""
    place = user_path(path)
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        from datasets import DatasetDict, load_from_disk

        found = load_from_disk(str(place))
        return _files(found if isinstance(found, DatasetDict) else {"": found}, str(path))
    tables = listed_files(place, _TABLES)
    if not tables:
        is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) is not None and not place.exists()
        fix = f"give hub: true, if {path} is a set on the hub that may be fetched" if is_name else "correct the path"
        raise ValueError(
            f"{place}: found neither {', '.join(_TABLES)} nor a folder of save_to_disk; expected tables. Fix: {fix}."
        )
    return {"": tables}


def _of_hub(name: str, subset: str | None, revision: str | None) -> dict[str, list[Path]]:
    from datasets import load_dataset

    try:
        # Nothing of a set's own code is run: the library takes tables and media alone.
        return _files(load_dataset(name, subset, revision=revision), name)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name}: found nothing on the hub that can be read ({' '.join(str(error).split())[:LONGEST_REASON]}); "
            "expected a set's name, and perhaps a subset. Fix: correct it, or look to the network."
        ) from error


def _files(sets: Mapping[str, Any], where: str) -> dict[str, list[Path]]:
    found = {str(split): [Path(file["filename"]) for file in of.cache_files] for split, of in sets.items() if len(of)}
    if not any(found.values()):
        raise ValueError(f"{where}: found no rows; expected some. Fix: save the set anew.")
    return found


def _asked(splits: Sequence[str], known: Sequence[str], where: str) -> list[str]:
    if absent := [split for split in splits if split not in known]:
        raise ValueError(
            f"{where}: splits: found {absent[0]!r}; expected some of {', '.join(known)}. Fix: name these, or none."
        )
    return [split for split in known if split in splits]


def _rows(tables: TableFiles, column: str, splits: Sequence[str]) -> Sequence[int]:
    names = tables.labels.get(column, ())
    wanted = {*splits, *(place for place, name in enumerate(names) if name in splits)}
    kept = array("q", (index for index, value in enumerate(tables.column(column)) if value in wanted))
    if not kept:
        raise ValueError(
            f"{tables.path}: found no row whose {column!r} is one of {', '.join(splits)}; expected at least one. "
            "Fix: name others."
        )
    return kept


def _of_words(files: Sequence[Path], splits: Sequence[str], root: Path) -> list[Path]:
    chosen = of_splits(files, splits, root)
    if not chosen:
        told = ", ".join(file.name for file in files[:5])
        raise ValueError(
            f"{root}: splits: found neither a column of splits nor a file of {', '.join(splits)} among {told}; "
            "expected one. Fix: name the column as 'columns: {split: ...}', or leave splits out."
        )
    return chosen
