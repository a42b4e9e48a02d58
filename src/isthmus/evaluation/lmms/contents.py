"""What lmms-eval's tasks show and say -> messages in the chat-content convention.

A task gives media as paths, Pillow pictures, and what columns of Hugging Face's datasets hold: mappings with bytes or
samples, or decoders.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from isthmus.data.errors import fault
from isthmus.data.media.reply_files import Content
from isthmus.data.media.stored import StoredFile

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SOUNDS = {".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus"}
"""Endings of files for which a task names no medium; all others are films, as lmms-eval has it."""


def read_messages(messages: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """Messages of lmms-eval's chat interface, whose media are under ``url`` -> ours.

    Raises:
        DataError: a medium is of a kind that isn't known, or would have to be fetched.
    """
    return [{"role": turn["role"], "content": _content(turn["content"], where)} for turn in messages]


def user_message(visuals: Sequence[Any] | None, text: str, where: str) -> list[dict[str, Any]]:
    """The visuals and the context of lmms-eval's older interface -> one message of the user, media first.

    Raises:
        DataError: as in :func:`read_messages`.
    """
    content = [read_medium(visual, None, where) for visual in visuals or ()]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


def _content(content: str | Sequence[Mapping[str, Any]], where: str) -> str | Content:
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": item["text"]}
        if item["type"] == "text"
        else read_medium(_whole(item, where)["url"], item["type"], where)
        for item in content
    ]


def read_medium(value: Any, named: str | None, where: str) -> dict[str, Any]:
    """A medium of a task -> an item of a message's content.

    Args:
        value: a path, a picture, an array, or what a column of a dataset holds.
        named: what the task says it is. It says ``video`` of every mapping, so that samples decide for themselves.
        where: names it in an error.

    Raises:
        DataError: it is of a kind that isn't known, or would have to be fetched.
    """
    if isinstance(value, Mapping) and (kind := value.get("type")):
        named, value = kind, {key: inner for key, inner in value.items() if key != "type"}
    if isinstance(value, Image.Image):
        return _item("image", value)
    if (sound := _samples(value)) is not None:
        return sound
    if isinstance(value, Mapping):
        return _from_mapping(value, named, where)
    if isinstance(value, str | Path):
        return _from_address(str(value), named, where)
    if isinstance(value, np.ndarray) and named is not None:
        return _item(named, value)
    expected = "a path, a Pillow picture, or a mapping with 'bytes', 'path', or 'array' and 'sampling_rate'"
    raise fault(where, f"found {type(value).__name__} for a medium", expected, "convert it in the task's functions")


def _item(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"type": kind, kind: value, **more}


def _samples(value: Any) -> dict[str, Any] | None:
    """A recording in memory: a mapping with samples, or torchcodec's decoder, which datasets opens as of 4."""
    if hasattr(value, "get_all_samples"):
        decoded = value.get_all_samples()
        samples, rate = decoded.data.numpy(), decoded.sample_rate
    elif isinstance(value, Mapping) and value.get("array") is not None and value.get("sampling_rate"):
        samples, rate = np.asarray(value["array"]), value["sampling_rate"]
    else:
        return None
    # Channels are the shorter axis, whichever it is.
    mono = samples.mean(axis=int(np.argmin(samples.shape))) if samples.ndim == 2 else samples
    return _item("audio", np.clip(mono, -1, 1).astype(np.float32), rate=float(rate))


def _from_mapping(value: Mapping[str, Any], named: str | None, where: str) -> dict[str, Any]:
    address = _whole(value, where).get("path") or value.get("url")
    if value.get("bytes") is not None:
        name = str(address or where)
        return _item(named or kind_of(name), StoredFile(name, bytes(value["bytes"])))
    if address is None:
        expected = "'bytes', 'path', or 'array' and 'sampling_rate'"
        raise fault(where, f"found a medium with {', '.join(map(str, value))}", expected, "give one of these")
    return _from_address(str(address), named, where)


def _whole(value: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Refuses a film of which a task names a part: lmms-eval 0.7 has one such task."""
    for key in ("start_time", "end_time", "video_start", "video_end"):
        if value.get(key) is not None:
            raise fault(where, f"found {key} {value[key]}", "a whole film", "cut the part into a file of its own")
    return value


def _from_address(address: str, named: str | None, where: str) -> dict[str, Any]:
    if address.startswith("data:"):
        header, _, body = address.partition(",")
        try:
            data = base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise fault(where, f"found a data URL that isn't base64 ({error})", "whole base64", "encode it") from error
        return _item(named or header.removeprefix("data:").partition("/")[0], StoredFile(f"{where}: data URL", data))
    if address.startswith(("http://", "https://")):
        fix = "fetch it into a folder first, and let the task name the file"
        raise fault(where, f"found the address {address[:80]}", "a file: nothing is fetched", fix)
    path = unquote(urlsplit(address).path) if address.startswith("file://") else address
    return _item(named or kind_of(path), Path(path))


def kind_of(path: str) -> str:
    """The medium of a file that the task doesn't name, by its ending."""
    ending = Path(path).suffix.lower()
    return "image" if ending in PICTURES else "audio" if ending in SOUNDS else "video"
