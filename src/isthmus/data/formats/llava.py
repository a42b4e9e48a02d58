"""LLaVA's JSON: one image, video or recording a record, and a dialogue that says where it belongs."""

from __future__ import annotations

from typing import Any

from isthmus.data.formats.base import JsonSource
from isthmus.data.formats.fields import has_mark, mapping, placed, text, turns, unplaced, waiting_media


class Llava(JsonSource):
    r"""LLaVA's and Video-LLaVA's instruction files; ``image``, ``video``, ``audio`` or ``points`` is a path or a list.

        {"id": "1", "image": "1.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"},
          {"from": "gpt", "value": "A cat."}]}

    A record without any mark shows its media at the first human turn; a record without media is text alone. Questions
    of LLaVA-Bench, ``{"question_id": 0, "image": "1.jpg", "text": "What is it?"}``, are prompts without an answer.
    """

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = named = mapping(raw, where)
        waiting = waiting_media(record, lambda kind: [kind], where)
        messages, marked = [], False
        if "text" in record and not {"conversations", "conversation"} & record.keys():
            record = {"conversations": [{"from": "human", "value": text(record, ["text"], where)}]}
        for turn, role, place in turns(record, ("conversations", "conversation"), where):
            said = text(turn, ["value", "content"], place)
            # The assistant of these sets makes no media: a mark there is text.
            content = [{"type": "text", "text": said}] if role == "assistant" else placed(said, waiting, place)
            marked = marked or (role != "assistant" and has_mark(said, waiting))
            messages.append({"role": role, "content": content})
        rest = unplaced(waiting, marked, where)
        first = next((message for message in messages if message["role"] == "user"), messages[0])
        first["content"] = [*rest, *first["content"]]
        return {"messages": messages, "id": text(named, ["id", "question_id"], where, default=str(index))}
