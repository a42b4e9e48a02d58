"""WebVid's comma-separated table."""

from __future__ import annotations

from typing import Any, ClassVar

from isthmus.data.formats.caption_table import PublishedTable
from isthmus.types import Modality


class WebVid(PublishedTable):
    """Captions under ``name``, videos by their page and number.

        videoid,name,page_idx,page_dir,duration,contentUrl
        21179416,Aerial shot of a winter forest,6036,006001_006050,PT00H00M11S,https://example.org/1.mp4

    Videos lie in folders named by ``page_dir``.
    """

    modality = Modality.VIDEO
    medium_file = "{page_dir}/{videoid}.mp4"
    table: ClassVar[dict[str, Any]] = {"caption": "name"}
