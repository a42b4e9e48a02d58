"""A file that was uploaded, recorded, drawn or clicked -> a part of a request, and what the page shows of it."""

from __future__ import annotations

import time
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.serving.errors import invalid
from isthmus.serving.media import TYPES
from isthmus.serving.prompts import PromptMaker
from isthmus.serving.web.showing import show
from isthmus.serving.web.talks import Shown, Talk
from isthmus.types import Modality

ALIKE = {".jpeg": ".jpg", ".tif": ".tiff", ".m4v": ".mp4", ".oga": ".ogg"}


@dataclass
class Attached:
    """A medium of a question.

    Attributes:
        part: as the API takes it.
        shown: on the page.
        name: of its file, as its owner calls it.
    """

    part: dict[str, Any]
    shown: Shown
    name: str


def attach(path: Path, talk: Talk, prompts: PromptMaker) -> Attached:
    """Reads a file within the server's limits.

    Raises:
        ApiError: a kind of file that the model doesn't take, or one that is too large.
        ValueError: it can't be decoded.
        FileNotFoundError: it is no longer here.
    """
    name = path.name
    ending = ALIKE.get(path.suffix.lower(), path.suffix.lower())
    modality = _modality(name, ending, prompts.model.inputs)
    size, most = path.stat().st_size, prompts.limits.media.bytes
    if size > most:
        raise invalid(f"{name}: found {size} bytes; expected at most {most}. Fix: shrink it.")
    data = path.read_bytes()
    url = f"data:{TYPES[ending]};base64,{b64encode(data).decode('ascii')}"
    medium = prompts.reader.from_uri(url, modality, name)
    kind = f"{modality}_url"
    return Attached({"type": kind, kind: {"url": url}}, show(medium, talk, "Your", (ending, data)), name)


def _modality(name: str, ending: str, inputs: list[Modality]) -> Modality:
    kind = TYPES.get(ending, "")
    found = [modality for modality in inputs if kind and _fits(kind, modality)]
    if not found:
        endings = ", ".join(known for known, media in TYPES.items() if any(_fits(media, each) for each in inputs))
        raise invalid(f"{name}: this model takes files that end in {endings}. Fix: convert it.")
    return found[0]


def _fits(kind: str, modality: Modality) -> bool:
    """Whether files of a media type are read as a modality; arrays are those of clouds, or of what has no other."""
    match modality:
        case "image":
            return kind.startswith("image/")
        case "video":
            return kind.startswith("video/")
        case "audio":
            return kind.startswith("audio/")
        case "points":
            return kind.startswith(("model/", "application/"))
        case _:
            return kind.startswith("application/")


def remove_uploads(folder: Path, seconds: float) -> None:
    """Removes uploads that came longer ago than this, and the folders that they alone were in.

    Not each as soon as it is read: pages that upload the same file share it.
    """
    for path in folder.glob("*/*"):
        try:
            if time.time() - path.lstat().st_ctime > seconds:
                path.unlink()
                path.parent.rmdir()
        except OSError:  # it is a folder, or another file is beside it, or it is gone
            continue
