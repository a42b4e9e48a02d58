"""The items of ``/v1/responses``: those of a request -> the turns of a chat; a reply -> those of a response."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.model import Reply
from isthmus.serving.errors import ApiError, invalid
from isthmus.serving.media import to_base64
from isthmus.serving.provenance import Provenance
from isthmus.serving.schema import Message
from isthmus.types import Media, Modality

ROLES = ("user", "system", "developer", "assistant")
MOST_PARTIAL_IMAGES = 3
"""Of each picture, as at OpenAI."""
TEXTS = ("input_text", "output_text", "text")
"""Types of parts that hold words."""


def turns_of(
    given: str | Sequence[Mapping[str, Any]], instructions: str | None
) -> tuple[list[Message], dict[str, str]]:
    """The turns of a chat, and by turn (``messages[0]``) and part the items that it was made of, for errors.

    What the assistant said and drew since the last turn of another becomes one turn.

    Raises:
        ApiError: an item that isn't a message or a picture.
    """
    turns, names = [], {}
    if instructions:
        turns.append(Message(role="system", content=instructions))
        names["messages[0]"] = "instructions"
    items: Sequence[Mapping[str, Any]] = [{"role": "user", "content": given}] if isinstance(given, str) else given
    for place, item in enumerate(items):
        where = "input" if isinstance(given, str) else f"input[{place}]"
        message = _message(item, where)
        words, pictures = 0, 0
        if message.role == "assistant" and turns and turns[-1].role == "assistant":
            words, pictures = len(turns[-1].content or ()), len(_images(turns[-1]))
            turns[-1] = _together(turns[-1], message)
        else:
            turns.append(message)
            names[f"messages[{len(turns) - 1}]"] = where
        turn = f"messages[{len(turns) - 1}]"
        for i in range(len(message.content or ())):
            plain = isinstance(item.get("content"), str)
            content = where if isinstance(given, str) else f"{where}.content" if plain else f"{where}.content[{i}]"
            names[f"{turn}.content[{words + i}]"] = content
        for i in range(len(_images(message))):
            names |= {f"{turn}.images[{pictures + i}]{end}": f"{where}.result" for end in ("", ".image_url")}
    return turns, names


def _message(item: Mapping[str, Any], where: str) -> Message:
    kind = item.get("type", "message")
    if kind == "image_generation_call":
        if not isinstance(item.get("result"), str):
            raise _wrong(f"{where}.result", "none", "the picture in base64, since this server keeps no answers")
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{item['result']}"}}
        return Message(role="assistant", content=[], images=[picture])  # type: ignore[call-arg] # extra fields
    role, content = item.get("role"), item.get("content")
    if kind != "message":
        raise _wrong(f"{where}.type", repr(kind)[:40], "message or image_generation_call")
    if role not in ROLES:
        raise _wrong(f"{where}.role", repr(role)[:40], f"one of {', '.join(ROLES)}")
    if not isinstance(content, str | list):
        raise _wrong(f"{where}.content", type(content).__name__, "text or a list of parts")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return Message(role=role, content=[_part(part, f"{where}.content[{i}]") for i, part in enumerate(parts)])


def _part(part: Any, where: str) -> dict[str, Any]:
    """A part in the words of chat; what isn't known here is left to it."""
    if not isinstance(part, dict):
        raise _wrong(where, type(part).__name__, "an object")
    kind = part.get("type")
    if kind in TEXTS:
        return {"type": "text", "text": part.get("text")}
    if kind == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    return part


def _together(first: Message, second: Message) -> Message:
    assert isinstance(first.content, list) and isinstance(second.content, list)
    images = [*_images(first), *_images(second)]
    return Message(role="assistant", content=first.content + second.content, images=images)  # type: ignore[call-arg]


def _images(message: Message) -> list[dict[str, Any]]:
    """The pictures that the assistant drew in a turn."""
    images: list[dict[str, Any]] = (message.model_extra or {}).get("images", [])
    return images


def _wrong(where: str, found: str, expected: str) -> ApiError:
    return invalid(f"{where}: found {found}; expected {expected}. Fix: correct it.", where)


def message_item(text: str, status: str, name: str) -> dict[str, Any]:
    """What the model says."""
    content = [text_part(text)] if text or status != "in_progress" else []
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str) -> dict[str, Any]:
    """The words within a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def picture_item(medium: Media | None, made: Provenance | None, name: str) -> dict[str, Any]:
    """A picture; one that isn't made yet if None."""
    item: dict[str, Any] = {"id": name, "type": "image_generation_call", "status": "in_progress", "result": None}
    if medium is None:
        return item
    return item | {"status": "completed", "result": to_base64(medium, made), "action": "auto", **picture_facts(medium)}


def picture_facts(medium: Media) -> dict[str, str]:
    """What is said of a picture."""
    height, width = medium.array.shape[:2]
    return {"background": "opaque", "output_format": "png", "quality": "auto", "size": f"{width}x{height}"}


def output_of(reply: Reply, made: Provenance | None) -> list[dict[str, Any]]:
    """A reply's items: what it says, if anything, then its pictures. There is always one."""
    pictures = [picture_item(medium, made, new_name("ig")) for medium in reply.media(Modality.IMAGE)]
    if reply.text or not pictures:
        status = "incomplete" if reply.ended == "length" else "completed"
        return [message_item(reply.text, status, new_name("msg")), *pictures]
    return pictures


def new_name(kind: str) -> str:
    """An item's name."""
    return f"{kind}_{uuid.uuid4().hex}"
