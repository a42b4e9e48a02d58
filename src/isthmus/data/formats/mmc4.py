"""MMC4's documents: sentences, and images assigned to them."""

from __future__ import annotations

from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.base import JsonSource
from isthmus.data.formats.fields import mapping, text, texts
from isthmus.data.formats.interleaved import document


class MMC4(JsonSource):
    """One document a line; an image stands before the sentence that it is matched with.

        {"text_list": ["A cat.", "It sleeps."], "image_info": [{"image_name": "1.png", "matched_text_index": 0}]}

    The file is JSON lines.
    """

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        sentences = texts(record, ["text_list"], where)
        before: dict[int, list[tuple[str, str]]] = {}
        listed = record.get("image_info")
        if not isinstance(listed, list):
            raise fault(f"{where}: image_info", "found no list", "a list of images", "check that the file is MMC4")
        for i, entry in enumerate(listed):
            place = f"{where}: image_info[{i}]"
            described = mapping(entry, place)
            at = described.get("matched_text_index")
            if not isinstance(at, int) or not 0 <= at < len(sentences):
                found = f"found matched_text_index {at!r}"
                raise fault(place, found, f"a number below {len(sentences)}, of a sentence", "fix it")
            before.setdefault(at, []).append(("image", text(described, ["image_name"], place)))
        pieces = [piece for i, said in enumerate(sentences) for piece in [*before.get(i, []), ("text", said)]]
        return {"messages": document(pieces, where)}
