"""ShareGPT-like JSON, as LLaMA-Factory reads it: a dialogue, media in lists beside it, marks in the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.base import JsonSource
from isthmus.data.formats.fields import Item, has_mark, mapping, placed, text, traits, turns, unplaced, waiting_media
from isthmus.modalities import is_medium, known_media


class ShareGPT(JsonSource):
    """Dialogues under ``messages`` (role, content) or ``conversations`` (from, value).

        {"messages": [{"role": "user", "content": "<image>Who are they?"}, {"role": "assistant", "content": "..."}],
          "images": ["1.jpg"]}

    Media are under ``images``, ``videos``, ``audios`` and ``points``, one for each mark. LLaMA-Factory's newer form,
    with content as a list of ``{"type": "image_url", "value": "1.jpg"}``, is read too. So are tools: ``tools`` beside
    the turns, calls as ``tool_calls`` or turns of ``function_call``, and turns of ``observation`` or ``tool``; and
    ``loss`` or ``weight`` of an assistant's turn.
    """

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        waiting = waiting_media(record, lambda kind: [kind.spec.listed, str(kind)], where)
        shown = any(waiting.values())
        messages: list[dict[str, Any]] = []
        marked: list[str] = []  # answers with marks
        if system := text(record, ["system"], where, default=""):
            messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
        for turn, role, place in turns(record, ("messages", "conversations"), where, tools=True):
            own = {"role": role, **traits(turn)}
            if "tool_calls" in own and not (turn.get("tool_calls") and turn.get("content")):
                messages.append({**own, "content": ""})
                continue
            if isinstance(turn.get("content"), list):
                content = [_listed(item, waiting, f"{place}.content[{i}]") for i, item in enumerate(turn["content"])]
            else:
                said = text(turn, ["content", "value"], place)
                # Without media a "<video>" is a piece of HTML.
                is_text = role == "assistant" or not shown
                marked += [place] if role == "assistant" and has_mark(said, waiting) else []
                content = [{"type": "text", "text": said}] if is_text else placed(said, waiting, place)
            messages.append({**own, "content": content})
        if rest := unplaced(waiting, False, where):
            found = f"found {len(rest)} more media than marks such as <{rest[0]['type']}>"
            if marked:
                found += f" (in {marked[0]} a mark is text: media of this format are given, not made)"
            raise fault(where, found, "one mark a medium", "add the mark where the medium belongs")
        tools = {"tools": record["tools"]} if record.get("tools") else {}
        return {"messages": messages, **tools, "id": text(record, ["id"], where, default=str(index))}


def _listed(raw: Any, waiting: Mapping[str, list[Item]], where: str) -> Item:
    """A part of a content; one that names no file takes the record's next of its kind."""
    item = mapping(raw, where)
    kind = text(item, ["type"], where).removesuffix("_url")
    if kind != "text" and not is_medium(kind):
        raise fault(f"{where}.type", f"found {kind!r}", f"text, {', '.join(known_media())}", "rename the type")
    if waiting.get(kind) and item.get("value") is None and item.get(kind) is None:
        return waiting[kind].pop(0)
    return {"type": kind, kind: text(item, ["value", kind], where)}
