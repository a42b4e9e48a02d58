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
    for where, named in _named(configuration, "configuration"):
        if not any(named == package or named.startswith(f"{package}.") for package in (OWN, *allow)):
            package = named.partition(".")[0]
            raise ValueError(
                f"{file}: {where}: found {named!r}; expected a class of {', '.join((OWN, *allow))}, since opening the "
                f"folder would run that code. Fix: if you trust it, allow its package: --allow {package} on the "
                f"command line, allow=[{package!r}] in Python."
            )


def _named(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """(place, import path) of all that jsonargparse may import."""
    match value:
        case dict():
            for key, each in value.items():
                if key == "class_path" and isinstance(each, str) and "." in each:
                    yield f"{where}.{key}", each
                # Checkpoints are paths, which are never imported, and a folder may be called a.b.
                elif key != "checkpoint":
                    yield from _named(each, f"{where}.{key}")
        case list():
            for place, each in enumerate(value):
                yield from _named(each, f"{where}[{place}]")
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
                yield from _named(inner, where)
