"""Alpaca's JSON: an instruction, perhaps an input, an output; with LLaMA-Factory's and LLaVA's additions."""

from __future__ import annotations

from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.base import JsonSource
from isthmus.data.formats.fields import mapping, placed, text, unplaced, waiting_media


class Alpaca(JsonSource):
    """Instructions and their answers.

        {"instruction": "Translate.", "input": "le chat", "output": "the cat"}

    Also read: ``system``, ``history`` (pairs of earlier turns), media under ``image``, ``images``, ``video`` and so on,
    and ``instances`` of input and output, of which the first is taken, as in Alpaca's seed tasks.
    """

    def chat(self, raw: Any, where: str, index: int) -> dict[str, Any]:
        record = mapping(raw, where)
        pair = record
        if "instances" in record:
            listed = record["instances"]
            if not isinstance(listed, list) or not listed:
                raise fault(f"{where}: instances", "found none", "a list of input and output", "add one")
            pair = mapping(listed[0], f"{where}: instances[0]")
        instruction = text(record, ["instruction"], where)
        given_input = text(pair, ["input"], where, default="")
        output = text(pair, ["output"], where)
        asked = f"{instruction}\n\n{given_input}" if given_input.strip() else instruction
        waiting = waiting_media(record, lambda kind: [f"{kind}s", kind], where)
        # Without media a "<video>" is a piece of HTML.
        shown = any(waiting.values())
        content = placed(asked, waiting, where) if shown and "<" in asked else [{"type": "text", "text": asked}]
        content = [*unplaced(waiting, len(content) > 1, where), *content]
        messages = []
        if system := text(record, ["system"], where, default=""):
            messages.append({"role": "system", "content": [{"type": "text", "text": system}]})
        for i, turn in enumerate(record.get("history") or []):
            if not isinstance(turn, list | tuple) or [type(said) for said in turn] != [str, str]:
                raise fault(f"{where}: history[{i}]", f"found {str(turn)[:40]!r}", "a question and an answer", "fix it")
            for role, said in zip(("user", "assistant"), turn, strict=True):
                messages.append({"role": role, "content": [{"type": "text", "text": said}]})
        messages += [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": output}]},
        ]
        return {"messages": messages, "id": text(record, ["id"], where, default=str(index))}
