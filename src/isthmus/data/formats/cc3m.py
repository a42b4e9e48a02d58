"""Conceptual Captions' tab-separated table."""

from __future__ import annotations

from typing import Any, ClassVar

from isthmus.data.formats.caption_table import PublishedTable
from isthmus.types import Modality


class CC3M(PublishedTable):
    """Captions and addresses of images; nothing is fetched, so ``root`` holds those that were downloaded.

        a cat on a mat	http://example.org/1.jpg

    The table has no row of names: its columns are ``caption`` and ``url``. The downloaded files are named by row.
    """

    modality = Modality.IMAGE
    medium_file = "{row:09d}.jpg"
    table: ClassVar[dict[str, Any]] = {"columns": ("caption", "url"), "delimiter": "\t", "quoted": False}
