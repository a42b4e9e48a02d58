"""NExT-GPT version 2's dialogues: media are fields of the record, and marks such as ``<image>`` say where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.data.errors import fault
from isthmus.data.formats.fields import (
    Item,
    given,
    has_mark,
    made,
    placed,
    text,
    texts,
    turns,
    unplaced,
)
from isthmus.modalities import MEDIA, known_media


def marked_dialogue(record: Mapping[str, Any], where: str, folders: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A record with ``input_*``, ``output_*`` and ``*_captions`` -> the chat-content convention.

    A human turn's marks take inputs, an assistant turn's take outputs. Media of a record without marks stand at the
    first human turn's beginning and at the last assistant turn's end: never at every turn.

    Raises:
        DataError: captions and outputs that differ in number, or marks and media that do.
    """
    at = {str(kind): (folders or {}).get(kind, "") for kind in known_media()}
    inputs: dict[str, list[Item]] = {
        kind: [given(kind, name, folder) for name in texts(record, [f"input_{kind}"], where)]
        for kind, folder in at.items()
        if kind in MEDIA or f"input_{kind}" in record
    }
    outputs = {
        kind: _outputs(record, kind, folder, where)
        for kind, folder in at.items()
        if kind in MEDIA or f"{kind}_captions" in record or f"output_{kind}" in record
    }
    dialogue = turns(record, ("conversations", "conversation"), where)
    words = [text(turn, ["value", "content"], place) for turn, _, place in dialogue]
    contents = []
    for (_, role, place), said in zip(dialogue, words, strict=True):
        contents.append(placed(said, outputs if role == "assistant" else inputs, place))
    for role, waiting in (("user", inputs), ("assistant", outputs)):
        mine = [i for i, (_, speaker, _) in enumerate(dialogue) if speaker == role]
        rest = unplaced(waiting, any(has_mark(words[i], waiting) for i in mine), where)
        if rest and not mine:
            raise fault(where, f"found media of the {role} and no turn", f"a turn of the {role}", "add the turn")
        if rest and role == "user":
            contents[mine[0]] = rest + contents[mine[0]]
        elif rest:
            contents[mine[-1]] = contents[mine[-1]] + rest
    messages = [{"role": role, "content": content} for (_, role, _), content in zip(dialogue, contents, strict=True)]
    chat: dict[str, Any] = {"messages": messages}
    for key in ("id", "source_data"):
        if record.get(key) is not None:
            chat[key] = record[key]
    return chat


def _outputs(record: Mapping[str, Any], kind: str, folder: str, where: str) -> list[Item]:
    files = texts(record, [f"output_{kind}"], where)
    captions = texts(record, [f"{kind}_captions"], where)
    if files and len(files) != len(captions):
        found = f"found {len(files)} of output_{kind} and {len(captions)} of {kind}_captions"
        raise fault(where, found, "as many of each", "caption each medium that the assistant makes")
    return [made(kind, caption, files[i] if files else None, folder) for i, caption in enumerate(captions)]
