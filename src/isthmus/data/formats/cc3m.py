"""Conceptual Captions' tab-separated table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isthmus.data.formats.caption_table import CaptionTable
from isthmus.data.formats.captions import Direction
from isthmus.types import Modality


class CC3M(CaptionTable):
    """Captions and addresses of images; nothing is fetched, so ``root`` holds those that were downloaded.

        a cat on a mat	http://example.org/1.jpg

    The table has no row of names: its columns are ``caption`` and ``url``. The downloaded files are named by row.

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
        file: str = "{row:09d}.jpg",
        direction: Direction = "describe",
        describe: Sequence[str] | None = None,
        draw: Sequence[str] | None = None,
        seed: int = 0,
        splits: Sequence[str] | None = None,
        target_files: bool = True,
    ) -> None:
        super().__init__(
            path,
            Modality.IMAGE,
            file,
            columns=("caption", "url"),
            delimiter="\t",
            quoted=False,
            root=root,
            direction=direction,
            describe=describe,
            draw=draw,
            seed=seed,
            splits=splits,
            target_files=target_files,
        )
