"""Modalities that a user's own parts bring: known before options are read and sets are opened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

from isthmus.paths import user_path

BRINGS = "a class of yours that brings a modality, as my_package.MyEncoder; repeatable"
"""What an option of that name says."""


def bring(class_paths: Sequence[str]) -> None:
    """Loads classes, which makes the modalities known that their modules define.

    Raises:
        ValueError: a class that can't be imported.
    """
    for class_path in class_paths:
        module, _, name = class_path.rpartition(".")
        try:
            getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{class_path}: can't be imported ({error}); expected a class of a module that Python finds, as "
                "my_package.MyEncoder. Fix: correct the path, or put its folder on PYTHONPATH."
            ) from error


def bring_model(args: Sequence[str]) -> None:
    """Loads the classes of the trained model that a command line names, so that its modalities have options.

    Only those that ``--allow`` permits; what else is wrong with the folder the command itself will say.

    Raises:
        ValueError: a class that isn't allowed, or can't be imported.
    """
    for folder in _values(args, "--model"):
        file = user_path(folder) / "manifest.json"
        try:
            configuration = json.loads(file.read_text(encoding="utf-8"))["configuration"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        others = [path for path in class_paths(configuration) if not path.startswith("isthmus.")]
        if others:
            from isthmus.model.allowed import require_allowed

            require_allowed(configuration, _values(args, "--allow"), file)
            bring(others)


def class_paths(config: Any) -> Iterator[str]:
    """Every ``class_path`` of a configuration."""
    if isinstance(config, dict):
        if isinstance(found := config.get("class_path"), str) and "." in found:
            yield found
        for value in config.values():
            yield from class_paths(value)
    elif isinstance(config, list):
        for value in config:
            yield from class_paths(value)


def _values(args: Sequence[str], option: str) -> list[str]:
    after = [value for name, value in pairwise(args) if name == option]
    return after + [arg.partition("=")[2] for arg in args if arg.startswith(f"{option}=")]
