"""Cap3D's comma-separated table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isthmus.data.formats.caption_table import CaptionTable
from isthmus.data.formats.captions import Direction
from isthmus.types import Modality


class Cap3D(CaptionTable):
    """Captions of 3D objects, whose clouds are files of their names; the table has no row of names.

        5c0a3e1f,"a wooden chair with four legs"

    Args:
        path: the table.
        root: the folder of the media.
        file: the medium's path below ``root``, with column names in braces.
        direction: whether media are described, made, or both in turn.
        describe: instructions instead of the built-in ones.
        draw: the same for media to be made, each with ``{caption}``.
        seed: of the choice among instructions.
        splits: only rows whose column ``split`` holds one of these.
        target_files: see :class:`~isthmus.data.formats.base.RecordSource`.

    Raises:
        ValueError: see :class:`~isthmus.data.formats.caption_table.CaptionTable`.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        file: str = "{id}.ply",
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        splits: Sequence[str] | None = None,
        target_files: bool = True,
    ) -> None:
        super().__init__(
            path,
            Modality.POINTS,
            file,
            columns=("id", "caption"),
            root=root,
            direction=direction,
            describe=describe,
            draw=draw,
            seed=seed,
            splits=splits,
            target_files=target_files,
        )
