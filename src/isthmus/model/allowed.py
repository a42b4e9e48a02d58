"""Whose classes a bundle may name: this package's, and those of packages that the caller allows.

Opening a bundle imports and calls what its configuration names, and a bundle may have come from anywhere. So the
configuration is read as plain data first, and nothing is imported until all of it is allowed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import yaml

OWN = "isthmus"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def require_allowed(configuration: Any, allow: Sequence[str], file: Path) -> None:
    """Checks that every class of a configuration belongs to this package or to an allowed one.

    Args:
        configuration: plain dictionaries and lists, as a manifest holds them.
        allow: packages or modules beside this one, as ``my_package``.
        file: the manifest, for messages.

    Raises:
        ValueError: a class, or whatever else would be imported, is of another package.
    """
    if isinstance(allow, str):
        raise ValueError(f"allow: found the string {allow!r}; expected a list of packages. Fix: give [{allow!r}].")
    packages = (OWN, *allow)
    found = list(_named(configuration, "configuration", {}))
    # An allowed module may hold what it imported itself, so the objects are looked at once all names are allowed.
    for origin in (str, _origin):
        for where, named in found:
            if not _within(source := origin(named), packages) and (origin is str or named not in allow):
                package = source.partition(".")[0]
                raise ValueError(
                    f"{file}: {where}: found {named!r}; expected a class of {', '.join(packages)}, since opening the "
                    f"folder would run that code. Fix: if you trust it, allow its package: --allow {package} on the "
                    f"command line, allow=[{package!r}] in Python."
                )


def _within(named: str, packages: Sequence[str]) -> bool:
    return any(named == package or named.startswith(f"{package}.") for package in packages)


def _origin(named: str) -> str:
    """Where an object was defined, which is its own path where nothing runs by it or it can't be imported."""
    try:
        found = resolve_name(named)
    except (ImportError, AttributeError, ValueError):
        return named  # composing says so
    if isinstance(found, ModuleType):
        return found.__name__
    if not callable(found):
        return named
    return f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', type(found).__qualname__)}"


def _named(value: Any, where: str, seen: dict[int, Any]) -> Iterator[tuple[str, str]]:
    """(place, import path) of all that jsonargparse may import.

    Containers in ``seen`` are passed over, since YAML's aliases can nest one in itself, or in others without end.
    """
    if isinstance(value, dict | list):
        if id(value) in seen:
            return
        seen[id(value)] = value  # it is held, so that no other object gets its id
    match value:
        case dict():
            for key, each in value.items():
                if key == "class_path" and isinstance(each, str) and "." in each:
                    yield f"{where}.{key}", each
                # Checkpoints are paths, which are never imported, and a folder may be called a.b.
                elif not (key == "checkpoint" and isinstance(each, str) and _DOTTED.fullmatch(each)):
                    yield from _named(each, f"{where}.{key}", seen)
        case list():
            for place, each in enumerate(value):
                yield from _named(each, f"{where}[{place}]", seen)
        case str() if _DOTTED.fullmatch(value):
            # In the place of a class its bare path would do. Most dotted words are layers or names of models instead.
            root = value.partition(".")[0]
            if root in sys.modules or find_spec(root) is not None:
                yield where, value
        case str():
            # jsonargparse reads a string as YAML where no string is expected.
            try:
                inner = yaml.safe_load(value)
            except yaml.YAMLError:
                return
            if inner != value:
                yield from _named(inner, where, seen)
