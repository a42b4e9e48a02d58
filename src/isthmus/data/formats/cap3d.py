"""Cap3D's comma-separated table."""

from __future__ import annotations

from typing import Any, ClassVar

from isthmus.data.formats.caption_table import PublishedTable
from isthmus.types import Modality


class Cap3D(PublishedTable):
    """Captions of 3D objects, whose clouds are files of their names; the table has no row of names.

        5c0a3e1f,"a wooden chair with four legs"

    Its columns are ``id`` and ``caption``.
    """

    modality = Modality.POINTS
    medium_file = "{id}.ply"
    table: ClassVar[dict[str, Any]] = {"columns": ("id", "caption")}
