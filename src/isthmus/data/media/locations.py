"""Resolves paths of media files, which can't leave a root folder and are never on a network."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from isthmus.data.errors import Fault, fault, is_machines
from isthmus.data.retries import DISK
from isthmus.paths import user_path

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
"""A scheme of two letters or more: ``http:``, ``file:``, ``concat:``, ``data:``; a drive has a single letter."""

_fault = partial(fault, kind=Fault.PATH)


def resolve_path(name: str | Path, root: Path | None, where: str) -> Path:
    """The absolute path of a file that exists.

    Args:
        name: relative to ``root``, or absolute and below it.
        root: the folder that ``name`` can't leave, neither by ``..`` nor by a link; None trusts ``name``.
        where: the field's name in an error.

    Raises:
        DataError: it is a URL or leaves the root, or there is no such file.
    """
    text = str(name)
    if _URL.match(text) or text.startswith("//"):
        raise _fault(
            where,
            f"found the URL {text[:80]!r}",
            "a path",
            "download the file first: nothing is fetched from a network",
        )
    if not text or "\0" in text:
        raise _fault(where, f"found {text[:80]!r}", "a path", "give the file's path")

    def look() -> tuple[Path, bool, bool]:
        # "~" means the home folder only where the caller is trusted.
        path = (user_path(text) if root is None else root / text).resolve()
        is_inside = root is None or path.is_relative_to(root.resolve())
        return path, is_inside, is_inside and path.is_file()

    try:
        path, is_inside, is_file = DISK.run(text, look)
    except (OSError, RuntimeError, UnicodeError) as error:
        if is_machines(error):
            raise
        # For instance a name that is too long, circular links, missing permissions, or a lone surrogate.
        raise _fault(where, f"{text[:80]!r} can't be read ({error})", "a path", "give the file's path") from error
    if not is_inside:
        raise _fault(
            where, f"{text!r} leads outside {root}", "a file below that folder", "move the file, or set a higher root"
        )
    if not is_file:
        raise _fault(where, f"no file at {path}", "a file", "fix the path, or set the root that paths are relative to")
    return path
