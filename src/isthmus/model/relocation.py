"""Experts' folders that a configuration names relative to where training ran, found again from another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def relocated(configuration: Any, bundle: Path) -> Any:
    """A copy of the configuration, in which a ``checkpoint`` that lies below a parent of the bundle is absolute.

    A notebook or a service seldom starts where training did, and ``runs/`` and ``checkpoints/`` mostly share a folder:
    the nearest parent that has the checkpoint wins. What none has stays relative to the present folder.

    Args:
        configuration: plain dictionaries and lists, as a manifest holds them.
        bundle: the trained model's folder.
    """
    match configuration:
        case dict():
            return {
                key: _found(value, bundle)
                if key == "checkpoint" and isinstance(value, str)
                else relocated(value, bundle)
                for key, value in configuration.items()
            }
        case list():
            return [relocated(value, bundle) for value in configuration]
        case _:
            return configuration


def _found(checkpoint: str, bundle: Path) -> str:
    # As it is named, then as it really lies: runs/ may be a link to another disk.
    parents = [*bundle.absolute().parents, *bundle.resolve().parents]
    return next((str(parent / checkpoint) for parent in parents if (parent / checkpoint).exists()), checkpoint)
