"""What every format needs: named fields with clear errors, roles, and media placed where a text marks them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from isthmus.data.conversations.marks import marks
from isthmus.data.errors import fault
from isthmus.modalities import MEDIA, Modality, known_media

Item = dict[str, Any]
"""An item of the chat-content convention."""

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "bot": "assistant"}
ROLES["system"] = "system"

TOOL_ROLES = {"tool": "tool", "observation": "tool", "function": "tool"}
TOOL_ROLES |= {"function_call": "assistant", "tool_call": "assistant"}
"""Roles of sets in which the assistant calls tools."""

_RESERVED = ("messages", "details", "seed", "repeated")
"""Names that mean something else among the details of a conversation."""


def mapping(raw: Any, where: str) -> Mapping[str, Any]:
    """The record as a mapping.

    Raises:
        DataError: it is something else.
    """
    if not isinstance(raw, Mapping):
        raise fault(where, f"found {_kind(raw)}", "an object", "check that the file is of this format")
    return raw


def text(raw: Mapping[str, Any], names: Sequence[str], where: str, default: str | None = None) -> str:
    """The first of the named fields that is there, a string; numbers are written out.

    Raises:
        DataError: none is there and there's no default, or it is no string.
    """
    for name in names:
        value = raw.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if value is not None:
            raise fault(f"{where}: {name}", f"found {_kind(value)}", "a string", "fix this field")
    if default is None:
        has = ", ".join(map(str, list(raw)[:8])) or "nothing"
        raise fault(where, f"found the fields {has}", f"{' or '.join(names)}", "name the field so")
    return default


def texts(raw: Mapping[str, Any], names: Sequence[str], where: str) -> list[str]:
    """The first of the named fields that is there, a string or a list of strings; nothing where none is.

    Raises:
        DataError: it is something else.
    """
    for name in names:
        value = raw.get(name)
        if value is None or value == "":
            continue
        listed = value if isinstance(value, list) else [value]
        for entry in listed:
            if not isinstance(entry, str):
                raise fault(f"{where}: {name}", f"found {_kind(entry)}", "a string or a list of them", "fix this field")
        return listed
    return []


def turns(
    raw: Mapping[str, Any], names: Sequence[str], where: str, tools: bool = False
) -> list[tuple[Mapping[str, Any], str, str]]:
    """The turns under the first of the named fields that is there: each with its role and its name in errors.

    Args:
        raw: a record.
        names: of the field.
        where: the record's place.
        tools: whether :data:`TOOL_ROLES` are known too.

    Raises:
        DataError: no list, an empty one, or a turn without a known role.
    """
    name = next((name for name in names if name in raw), names[0])
    listed = raw.get(name)
    if not isinstance(listed, list) or not listed:
        raise fault(
            f"{where}: {name}", f"found {_kind(listed)}", "a list of turns", "check that the file is of this format"
        )
    result = []
    for i, turn in enumerate(listed):
        place = f"{where}: {name}[{i}]"
        said = text(mapping(turn, place), ("from", "role"), place)
        known = ROLES | TOOL_ROLES if tools else ROLES
        if said not in known:
            raise fault(f"{place}.from", f"found {said!r}", f"one of {', '.join(known)}", "rename or remove the turn")
        result.append((turn, known[said], place))
    return result


def calls(turn: Mapping[str, Any]) -> Any:
    """What a turn calls, as it is written there; None where it calls nothing."""
    if turn.get("from", turn.get("role")) in ("function_call", "tool_call"):
        return turn.get("content", turn.get("value"))
    return turn.get("tool_calls") or None


def traits(turn: Mapping[str, Any]) -> Item:
    """What a turn says of itself beside its words: whether it is learnt, and what it calls."""
    said = {key: turn[key] for key in ("loss", "weight") if turn.get(key) is not None}
    called = calls(turn)
    return said if called is None else {**said, "tool_calls": called}


def given(modality: str, name: str, folder: str = "") -> Item:
    """A medium that the user shows."""
    return {"type": modality, modality: str(PurePosixPath(folder) / name) if folder else name}


def made(modality: str, caption: str, name: str | None = None, folder: str = "") -> Item:
    """A medium that the assistant is to make; its file, where there is one, is the denoising target."""
    item = {"type": modality, "caption": caption.strip()}
    return item if name is None else {**given(modality, name, folder), **item}


def waiting_media(
    record: Mapping[str, Any], fields: Callable[[Modality], Sequence[str]], where: str
) -> dict[str, list[Item]]:
    """The media that a record lists, by modality, until marks such as ``<image>`` place them.

    Of modalities beyond :data:`~isthmus.modalities.MEDIA` only those that a mark or a part asks for: their fields may
    mean something else (``depth: 3``).

    Args:
        record: of a set.
        fields: modality -> the names of its field, of which the first that is there counts.
        where: the record's file and line.
    """
    kinds = [
        kind
        for kind in known_media()
        if kind in MEDIA
        or (any(name in record for name in fields(kind)) and re.search(rf"<{kind}>|'type': '{kind}", str(record)))
    ]
    return {str(kind): [given(kind, name) for name in texts(record, fields(kind), where)] for kind in kinds}


def placed(words: str, waiting: Mapping[str, list[Item]], where: str) -> list[Item]:
    """A text with marks such as ``<image>`` -> its pieces and media in order; those are taken out of ``waiting``.

    Raises:
        DataError: a mark without a medium left for it.
    """
    items: list[Item] = []
    last = 0
    for mark in marks(words, waiting):
        left = waiting.get(mark[1]) or []
        if not left:
            raise fault(
                where, f"found {mark[0]} in the text, and no {mark[1]} left for it", "one medium a mark", "add it"
            )
        items += [*_piece(words[last : mark.start()]), left.pop(0)]
        last = mark.end()
    return items + _piece(words[last:]) or [{"type": "text", "text": words}]


def unplaced(waiting: Mapping[str, list[Item]], marked: bool, where: str) -> list[Item]:
    """Media that no mark placed: all of a record without any mark, to be put at a turn's beginning or end.

    Raises:
        DataError: some were placed by marks, and these are too many.
    """
    rest = [item for modality in known_media() for item in waiting.get(modality, [])]
    if rest and marked:
        found = f"found {len(rest)} more media than marks such as <{rest[0]['type']}>"
        raise fault(where, found, "one mark a medium", "add the mark where the medium belongs")
    return rest


def details(raw: Mapping[str, Any], but: Collection[str] = ()) -> dict[str, Any]:
    """The plain fields of a record, which travel with its conversation: texts, numbers, and what is true or false."""
    return {
        name: value
        for name, value in raw.items()
        # A number that isn't equal to itself is what tables have for nothing.
        if name not in but and name not in _RESERVED and isinstance(value, str | int | float) and value == value
    }


def has_mark(words: str, waiting: Collection[str] = ()) -> bool:
    """Whether a text says where media belong: those that every vocabulary has, or are ``waiting``."""
    return any(True for _ in marks(words, waiting))


def _piece(words: str) -> list[Item]:
    # The line break beside a mark separates it from the words; the medium does that itself.
    words = words.strip("\r\n")
    return [{"type": "text", "text": words}] if words.strip() else []


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
