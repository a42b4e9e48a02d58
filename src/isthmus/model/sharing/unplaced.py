"""A manifest without paths of the machine on which it was written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from isthmus.model.relocation import CHECKPOINT, ELSEWHERE
from isthmus.paths import user_path

TEXTS = ("stop_strings",)
"""Options whose strings are said to a model, and name no path whatever they look like."""


def without_paths(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a manifest without paths of this machine, the folders of data files and the cache's folder.

    A path is one of this machine if it is absolute, starts with ``~`` or leads upwards by ``..``, whatever option
    names it. It is cut to a relative one that the manifest names, too, and in which it ends; else to its shortest
    ending that no other one has.
    """
    shared: dict[str, Any] = deepcopy(dict(manifest))
    if shared["configuration"] is not None:
        shared["configuration"]["cache"] = None
    for source in shared.get("data", {}).values():
        if "files" in source:
            source["files"] = [Path(file).name for file in source["files"]]
    strings = list(_strings(shared))
    own = {each: _absolute(each) for _, each in strings if _is_local(each)}
    others = {each: Path(each) for key, each in strings if key == CHECKPOINT and not (each in own or ELSEWHERE in each)}
    cut: dict[str, Any] = _replaced(shared, _shorter(own, set(others.values())))
    return cut


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings below a value that may name a path, each with the key that it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each, key)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name not in TEXTS:
                yield from _strings(each, name)


def _is_local(text: str) -> bool:
    if ELSEWHERE in text or "\n" in text:
        return False
    return text.startswith(("/", "~")) or ".." in text.split("/")


def _absolute(text: str) -> Path:
    return Path(os.path.abspath(user_path(text)))


def _shorter(own: Mapping[str, Path], relative: set[Path]) -> dict[str, str]:
    """Each path of this machine -> what is said of it."""
    found = {}
    for each, path in own.items():
        others = {*own.values(), *relative} - {path}
        ends = [one for one in relative if _ends_in(path, one)]
        names = path.parts[1:]
        endings = (Path(*names[first:]) for first in range(len(names) - 1, 0, -1))
        shortest = next((one for one in endings if not any(_ends_in(other, one) for other in others)), Path(*names))
        found[each] = str(max(ends, key=lambda one: len(one.parts), default=shortest))
    return found


def _ends_in(path: Path, ending: Path) -> bool:
    return path.parts[-len(ending.parts) :] == ending.parts


def _replaced(value: Any, by: Mapping[str, str]) -> Any:
    match value:
        case str():
            return by.get(value, value)
        case list():
            return [_replaced(each, by) for each in value]
        case dict():
            return {name: each if name in TEXTS else _replaced(each, by) for name, each in value.items()}
        case _:
            return value
