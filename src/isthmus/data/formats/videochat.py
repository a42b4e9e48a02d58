"""VideoChat's JSON: a video or an image, and questions with answers."""

from __future__ import annotations

from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.base import JsonSource
from isthmus.data.formats.fields import Item, given, mapping, text


class VideoChat(JsonSource):
    """VideoChat's and VideoChat2's instruction files.

        {"video": "1.mp4", "QA": [{"i": "Look closely.", "q": "What happens?", "a": "A man runs."}]}

    ``i``, where it is there, is said before the question. The medium stands in the first turn.
    """

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        kind = next((kind for kind in ("video", "image", "audio") if kind in record), "video")
        content: list[Item] = [given(kind, text(record, [kind], where))]
        asked = record.get("QA")
        if not isinstance(asked, list) or not asked:
            raise fault(
                f"{where}: QA", "found no questions", "a list of q and a", "check that the file is of this format"
            )
        messages = []
        for i, asking in enumerate(asked):
            place = f"{where}: QA[{i}]"
            pair = mapping(asking, place)
            words = [text(pair, ["i"], place, default=""), text(pair, ["q"], place, default="")]
            content.append({"type": "text", "text": " ".join(word for word in words if word.strip())})
            messages += [
                {"role": "user", "content": content},
                {"role": "assistant", "content": [{"type": "text", "text": text(pair, ["a"], place)}]},
            ]
            content = []
        return {"messages": messages}
