"""What a stage was learnt from, for its manifest: each source's files, a hash of their content, and the licence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from isthmus.cache.fingerprint import fingerprint
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.licences import CARDS, stated_licences

ABOVE = 2
"""Folders above a file's own in which a card is looked for: sets keep their tables in ``data/train``."""


def provenance(
    sources: Mapping[str, ConversationSource], mixed: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """By source its class, conversations, choice and, where it is made of files, these, a hash of them, the licence.

    Sources that aren't ``mixed`` are left out, where that is given.

    The hash is of the files that :attr:`ConversationSource.files` names: media beside them aren't read. Of a folder it
    is of names and sizes.
    """
    return {name: _described(source) for name, source in sources.items() if mixed is None or name in mixed}


def _described(source: ConversationSource) -> dict[str, Any]:
    own = type(source)
    found: dict[str, Any] = {"class": f"{own.__module__}.{own.__qualname__}", "conversations": len(source)}
    if source.choice:
        found["choice"] = dict(source.choice)
    files = [file for file in source.files if file.exists()]
    if files:
        found |= {"files": [str(file) for file in files], "content": _content(files)}
    if licences := sorted({licence for folder in _folders(files) for licence in stated_licences(folder)}):
        found["licence"] = ", ".join(licences)
    return found


def _content(files: Iterable[Path]) -> str:
    digest = sha256()
    for file in files:
        if file.is_dir():
            for inner in sorted(file.rglob("*")):
                if inner.is_file():
                    digest.update(f"{inner.relative_to(file).as_posix()}:{inner.stat().st_size}\n".encode())
        else:
            digest.update(fingerprint(file).encode())
    return digest.hexdigest()[:32]


def _folders(files: Sequence[Path]) -> set[Path]:
    """The nearest folder with a card of each file."""
    own = {file.absolute() if file.is_dir() else file.absolute().parent for file in files}
    found = set()
    for folder in own:
        near = (place for place in (folder, *folder.parents[:ABOVE]) if any((place / card).is_file() for card in CARDS))
        found |= set(islice(near, 1))
    return found
