"""Records whose fields are called as others call them -> conversations: by guesses that sets on the hub bear out.

A record is a mapping of plain values, in which media are paths, bytes, or what Hugging Face's features hold
(``{"bytes": ..., "path": ...}``). What is None isn't there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from isthmus.data.errors import fault
from isthmus.data.formats.captions import Captions
from isthmus.data.formats.endings import ending_of, endings_of
from isthmus.data.formats.fields import Item, details, given, has_mark, mapping, placed, text, traits, turns, unplaced
from isthmus.data.media.stored import StoredFile
from isthmus.modalities import MEDIA, known_media
from isthmus.types import Media

Names = str | Sequence[str]
"""A field, or several whose media follow one another."""

WORDS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "texts"),
    "question": ("question", "query"),
    "answer": ("answer", "response"),
    "caption": ("caption", "captions", "txt", "text", "sentence", "transcription", "description"),
    "label": ("label", "class", "cls"),
}
"""What may be said, and under which names; of several the first counts."""

MORE: dict[str, tuple[str, ...]] = {"system": ("system",), "id": ("id", "__key__"), "split": ("split",)}

OTHERS = {"image": ("images", "img", "picture"), "points": ("pointcloud", "point_cloud")}
"""Further names of media, beside the modality's own and the endings of its files."""


def shown_names() -> dict[str, tuple[str, ...]]:
    """Media by modality, of all that are known, and under which names."""
    names = {one: (str(one), one.spec.listed, *OTHERS.get(one, ()), *endings_of(one)) for one in known_media()}
    return {str(one): tuple(dict.fromkeys(own)) for one, own in names.items()}


class Columns:
    """What each field of a set means.

    Args:
        chosen: role (of :data:`WORDS`, :data:`MORE`, or a modality) -> the field that has it, where a guess fails.
            Where one role of words is named, no other words are looked for, and likewise with media.
        captions: makes instructions of captioned media.
        names: the set's fields, where all records have the same.
        labels: field -> the names that its numbers stand for.
        where: the set, for errors.

    Raises:
        ValueError: a role that there isn't, or a field that the set hasn't got.
    """

    def __init__(
        self,
        chosen: Mapping[str, Names] | None,
        captions: Captions,
        names: Sequence[str] | None = None,
        labels: Mapping[str, Sequence[str]] | None = None,
        where: str = "columns",
    ) -> None:
        self.captions = captions
        self.labels = dict(labels or {})
        own = {role: [of] if isinstance(of, str) else list(of) for role, of in (chosen or {}).items()}
        self.shown = shown_names()
        known = (*WORDS, *MORE, *self.shown)
        if unknown := [role for role in own if role not in known]:
            raise ValueError(
                f"{where}: columns: found {unknown[0]!r}; expected some of {', '.join(known)}. Fix: write "
                "'role: column', as 'caption: alt_text'."
            )
        told = ", ".join(names or ())[:300]
        if absent := [name for of in own.values() for name in of if names is not None and name not in names]:
            raise ValueError(
                f"{where}: columns: found {absent[0]!r}; expected one of the set's columns: {told}. Fix: correct it."
            )
        self.roles: dict[str, tuple[Sequence[str], bool]] = {}
        """Role -> its fields, and whether all of them count (else the first that is there)."""
        for kin in (WORDS, MORE, self.shown):
            guessed = kin if kin is MORE or not own.keys() & kin.keys() else {}
            for role in kin:
                if role in own:
                    self.roles[role] = own[role], True
                elif role in guessed and (kin is not self.shown or role in MEDIA):
                    # A field called depth may be a number: only the four media of every model are guessed.
                    self.roles[role] = kin[role], False
        if names is not None and not self._can_serve(names):
            raise ValueError(
                f"{where}: found the columns {told}; expected a dialogue (messages, conversations, texts), a question "
                "and its answer, or a medium and its caption. Fix: name them in 'columns', as 'caption: alt_text'."
            )

    def used(self, names: Sequence[str]) -> list[str]:
        """Those of a set's fields that may mean something."""
        return [name for name in names if any(name in of for of, _ in self.roles.values())]

    def field(self, role: str, names: Collection[str]) -> str | None:
        """The first of some names that has a role."""
        return next((name for name in self.roles.get(role, ((), False))[0] if name in names), None)

    def chat(self, record: Mapping[str, Any], where: str, index: int) -> dict[str, Any]:
        """A record in the chat-content convention.

        Raises:
            DataError: it says nothing, or its media aren't as many as its words call for.
        """
        there = {name: value for name, value in record.items() if value is not None and value != ""}
        for name, listed in self.labels.items():
            if isinstance(number := there.get(name), int):
                there[name] = listed[number] if 0 <= number < len(listed) else str(number)
        media = {kind: self._media(kind, there, where) for kind in self.shown}
        if (told := there.get("modality")) in media and not media[told]:
            # An ending may be that of several kinds: a GIF is a picture, unless its record says that it is a video.
            media = {told: [{"type": told, told: item[item["type"]]} for of in media.values() for item in of]}
        said = {role: field for role in WORDS if (field := self._said(role, there)) is not None}
        # Names such as __key__ and __url__ are those of whoever read the set before.
        shown = {name for kind in media for name in self.roles.get(kind, ((), False))[0]}
        known = details(there, {*shown, *(name for name in there if name.startswith("__"))})
        own = {role: self.field(role, there) for role in ("id", "split", "label")}
        known |= {role: there[field] for role, field in own.items() if field is not None}
        if "messages" in said:
            known.pop(said["messages"], None)  # turns written as JSON
            system = text(there, self.roles.get("system", (("system",), False))[0], where, default="")
            messages = _dialogue(there[said["messages"]], said["messages"], media, system, where)
        elif "question" in said and "answer" in said:
            pair = [{"user": there[said["question"]], "assistant": _first(there[said["answer"]])}]
            messages = _dialogue(pair, said["question"], media, "", where)
        elif told := said.get("caption") or said.get("label"):
            items = [item for of in media.values() for item in of]
            if len(items) != 1:
                found = ", ".join(f"{len(of)} {kind}" for kind, of in media.items() if of) or "no medium"
                raise fault(where, f"found {found} beside {told!r}", "one medium", "name it in 'columns'")
            item = items[0]
            caption = there[told] if isinstance(there[told], list) else str(there[told])
            chat = self.captions.chat(item["type"], item[item["type"]], caption, index, where)
            return {**known, **chat}
        else:
            has = ", ".join(map(str, there))[:200] or "nothing"
            raise fault(where, f"found {has}", "a dialogue, a question and its answer, or a caption", "name its column")
        tools = {"tools": there["tools"]} if "messages" in said and there.get("tools") else {}
        return {**known, **tools, "messages": messages}

    def _can_serve(self, names: Collection[str]) -> bool:
        has = {role for role in (*WORDS, *self.shown) if self.field(role, names) is not None}
        pair = bool(has & {"caption", "label"}) and bool(has & self.shown.keys())
        return "messages" in has or {"question", "answer"} <= has or pair

    def _said(self, role: str, there: Mapping[str, Any]) -> str | None:
        name = self.field(role, there)
        if role == "messages" and name == "texts" and not isinstance(_first(there[name]), Mapping):
            return None  # captions, and no turns
        return name

    def _media(self, kind: str, there: Mapping[str, Any], where: str) -> list[Item]:
        fields, all_count = self.roles.get(kind, ((), False))
        present = [name for name in fields if name in there]
        items: list[Item] = []
        for name in present if all_count else present[:1]:
            cell = there[name]
            is_cloud = kind == "points" and isinstance(cell, list) and isinstance(_first(cell), list)
            for one in cell if isinstance(cell, list) and not is_cloud else [cell]:
                if one is not None:
                    items.append(given(kind, _medium(one, kind, name, where)))
        return items


def _medium(cell: Any, kind: str, name: str, where: str) -> Any:
    """A cell -> a path, bytes with a name, or an array."""
    path = ""
    if isinstance(cell, Mapping) and cell.keys() & {"bytes", "path"}:
        path = str(cell.get("path") or "")
        cell = cell["bytes"] if cell.get("bytes") is not None else path
    if isinstance(cell, bytes):
        base = PurePosixPath(path.replace("\\", "/")).name or name
        ending = "" if PurePosixPath(base).suffix else ending_of(cell, name)
        return StoredFile(f"{where}: {base}{ending}", cell)
    if kind == "points" and isinstance(cell, list):
        try:
            return np.asarray(cell, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise fault(f"{where}: {name}", f"found no cloud ({error})", "rows of 3 or 6 numbers", "fix it") from error
    if isinstance(cell, str | StoredFile | Media):
        return cell
    raise fault(f"{where}: {name}", f"found a {type(cell).__name__}", "a file's bytes or its path", "name another")


def _dialogue(raw: Any, name: str, media: Mapping[str, list[Item]], system: str, where: str) -> list[dict[str, Any]]:
    """Turns of any of the usual forms, with media where marks or parts without a file want them, else at the start."""
    if isinstance(raw, str) and raw.lstrip().startswith("["):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise fault(f"{where}: {name}", f"found no JSON ({error})", "a list of turns", "fix it") from error
    if isinstance(raw, Mapping) and raw and all(isinstance(of, list) for of in raw.values()):
        # What the library makes of a sequence of structs in some of its versions: a struct of lists.
        raw = [dict(zip(raw, values, strict=False)) for values in zip(*raw.values(), strict=False)]
    if isinstance(raw, list) and isinstance(_first(raw), Mapping) and {"user", "assistant"} <= raw[0].keys():
        pairs = [mapping(pair, f"{where}: {name}[{i}]") for i, pair in enumerate(raw)]
        raw = [{"role": role, "content": pair.get(role)} for pair in pairs for role in ("user", "assistant")]
    waiting = {kind: list(items) for kind, items in media.items()}
    shown = any(waiting.values())
    messages: list[dict[str, Any]] = []
    marked = False
    for turn, role, place in turns({name: raw}, (name,), where, tools=True):
        content = turn.get("content", turn.get("value"))
        own = {"role": role, **traits(turn)}
        if "tool_calls" in own and not (turn.get("tool_calls") and content):
            messages.append({**own, "content": ""})
            continue
        if isinstance(content, list):
            parts = [_part(part, waiting, f"{place}.content[{i}]") for i, part in enumerate(content)]
            marked = marked or any(part["type"] != "text" for part in parts)
            messages.append({**own, "content": parts})
            continue
        said = text(turn, ("content", "value"), place)
        is_text = role == "assistant" or not (shown and has_mark(said))
        marked = marked or not is_text
        items = [{"type": "text", "text": said}] if is_text else placed(said, waiting, place)
        messages.append({**own, "content": items})
    rest = unplaced(waiting, marked, where)
    first = next((message for message in messages if message["role"] == "user"), messages[0])
    first["content"] = [*rest, *first["content"]]
    is_told = not system or any(message["role"] == "system" for message in messages)
    return messages if is_told else [{"role": "system", "content": system}, *messages]


def _part(raw: Any, waiting: Mapping[str, list[Item]], where: str) -> Item:
    """A text, a medium with its file, or the next of the record's media."""
    part = {key: value for key, value in mapping(raw, where).items() if value is not None}
    kind = text(part, ["type"], where).removesuffix("_url")
    if kind == "text":
        return {"type": "text", "text": text(part, ["text", "content", "value"], where)}
    if kind not in waiting:
        raise fault(f"{where}.type", f"found {kind!r}", f"text, {', '.join(waiting)}", "rename the type")
    caption = {"caption": part["caption"]} if "caption" in part else {}
    own = next((part[key] for key in (kind, f"{kind}_url", "value", "path", "bytes") if key in part), None)
    if own is not None:
        return {**given(kind, _medium(own, kind, kind, where)), **caption}
    if not waiting[kind]:
        raise fault(where, f"found an {kind} part, and no {kind} left for it", "one medium a part", "add it")
    return {**waiting[kind].pop(0), **caption}


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value
