"""OBELICS' documents: two lists of one length, of which one or the other holds something at each place."""

from __future__ import annotations

from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.base import JsonSource
from isthmus.data.formats.fields import mapping
from isthmus.data.formats.interleaved import document


class Obelics(JsonSource):
    """One document a line. Images are paths here: nothing is fetched, so put the downloaded files' names for addresses.

        {"images": ["1.png", null], "texts": [null, "A cat."]}

    The file is JSON lines.
    """

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        images, said = record.get("images"), record.get("texts")
        if not isinstance(images, list) or not isinstance(said, list) or len(images) != len(said):
            raise fault(where, "found no images and texts of one length", "two such lists", "check that it is OBELICS")
        pieces = []
        for i, (image, words) in enumerate(zip(images, said, strict=True)):
            kind, value = ("text", words) if image is None else ("image", image)
            if value is None:
                continue
            if not isinstance(value, str) or (image is not None and words is not None):
                raise fault(f"{where}: [{i}]", "found no text and no image, or both", "a string in one list", "fix it")
            pieces.append((kind, value))
        return {"messages": document(pieces, where)}
