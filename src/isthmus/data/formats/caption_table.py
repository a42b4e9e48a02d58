"""Tables of captions, of which a row's columns tell the medium's file: what CC3M, WebVid, AudioCaps and Cap3D share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from isthmus.data.conversations.records import CsvRecords
from isthmus.data.errors import fault
from isthmus.data.formats.base import RecordSource
from isthmus.data.formats.captions import Captions, Direction
from isthmus.data.formats.fields import details
from isthmus.data.formats.filters import kept_records
from isthmus.modalities import Modality, is_medium, known_media


class CaptionTable(RecordSource):
    """Any table with a caption a row.

    Args:
        path: the table.
        modality: of its media.
        file: the medium's path below ``root``, with column names in braces, as ``{page_dir}/{videoid}.mp4``; ``{row}``
            is the row's number from 0, and may be formatted: ``{row:09d}.jpg``.
        caption: the column of captions.
        columns: their names where the file has no row of names.
        delimiter: between columns.
        quoted: whether fields may be enclosed.
        quote: the character that encloses them.
        escape: a character that takes the next one's meaning away, as a backslash before a quote.
        root: the folder of the media.
        direction: whether media are described, made, or both in turn.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        splits: only rows whose column ``split`` holds one of these.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: a column that isn't there, and see :class:`~isthmus.data.conversations.records.Records`.
    """

    def __init__(
        self,
        path: str | Path,
        modality: str,
        file: str,
        caption: str = "caption",
        columns: Sequence[str] | None = None,
        delimiter: str = ",",
        quoted: bool = True,
        quote: str = '"',
        escape: str | None = None,
        root: str | Path | None = None,
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        splits: Sequence[str] | None = None,
        target_files: bool = True,
    ) -> None:
        if not is_medium(modality):
            raise ValueError(
                f"modality: found {modality!r}; expected one of {', '.join(known_media())}. Fix: choose one, or load "
                "what brings it, such as a config or a model with its encoder."
            )
        records = CsvRecords(path, delimiter, columns, quoted, quote, escape)
        super().__init__(records, root, target_files, kept_records(records, {"split": splits}))
        self.modality = Modality(modality)
        self.captions = Captions(direction, describe, draw, seed)
        self.file = file
        self.caption = caption
        # An example row shows now, not at the millionth, whether the columns are there.
        example = {**dict.fromkeys(records.columns, ""), "row": 0}
        try:
            file.format(**example)
            example[caption]
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{path}: found the columns {', '.join(records.columns)[:200]}; expected {caption!r}, which 'caption' "
                f"names, and those in the braces of 'file', {file!r}. Fix: name columns that the table has, as "
                f"caption: text and file: '{{name}}'."
            ) from error

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        try:
            name = self.file.format(**{**raw, "row": index})
        except (ValueError, LookupError) as error:
            raise fault(
                where, f"a row doesn't fit {self.file!r} ({error})", "values of its form", "fix the row"
            ) from error
        chat = self.captions.chat(self.modality, name, raw[self.caption], index, where)
        return {**details(raw), **chat}


class PublishedTable(CaptionTable):
    """A set whose columns are known: each subclass names them.

    Args:
        path: the table.
        root: the folder of the media.
        file: the medium's path below ``root``, with column names in braces; by default the set's own, ``medium_file``.
        direction: whether media are described, made, or both in turn.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        splits: only rows whose column ``split`` holds one of these.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: see :class:`CaptionTable`.
    """

    modality: Modality
    medium_file: str
    table: ClassVar[dict[str, Any]] = {}
    """Arguments of :class:`CaptionTable` that say how the table is written."""

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        file: str | None = None,
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        splits: Sequence[str] | None = None,
        target_files: bool = True,
    ) -> None:
        own = {"modality": self.modality, "file": self.medium_file if file is None else file, **self.table}
        super().__init__(
            path,
            **own,
            root=root,
            direction=direction,
            describe=describe,
            draw=draw,
            seed=seed,
            splits=splits,
            target_files=target_files,
        )
