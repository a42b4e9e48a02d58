"""Configurations that earlier versions wrote into bundles, under today's names."""

from __future__ import annotations

from typing import Any

GENERATORS = "isthmus.generators."
"""Their ``dtype`` was called ``precision``."""
BACKBONES = "isthmus.backbones."
"""They had a ``recompute``, which changed no result."""


def renamed(configuration: Any) -> Any:
    """A copy of the configuration in which every option has the name that it has now, and none is gone.

    Args:
        configuration: plain dictionaries and lists, as a manifest holds them.
    """
    match configuration:
        case {"class_path": str(name), "init_args": {"precision": dtype, **others}} if name.startswith(GENERATORS):
            return {**configuration, "init_args": renamed(others) | {"dtype": dtype}}
        case {"class_path": str(name), "init_args": {"recompute": _, **others}} if name.startswith(BACKBONES):
            return {**configuration, "init_args": renamed(others)}
        case dict():
            return {key: renamed(value) for key, value in configuration.items()}
        case list():
            return [renamed(value) for value in configuration]
        case _:
            return configuration
