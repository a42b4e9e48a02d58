"""The checkpoints that a config of ``fit`` names, found without composing anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from isthmus.cli.experts.entries import Entry, entry_of
from isthmus.cli.parts import all_parts
from isthmus.cli.training import Command
from isthmus.hub.address import is_address

FIELDS = ("checkpoint", "t5")
"""Arguments that name a checkpoint, an address of the hub or not."""


class Parsed(Command):
    """Parses what ``fit`` parses, and does nothing."""

    def before_instantiate_classes(self) -> None:
        """Leaves addresses as they are written."""

    def instantiate_classes(self) -> None:
        """Composes nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def needed(configs: Sequence[str], folder: Path) -> list[Entry]:
    """What the model, the rewards and whatever else of the merged configs need, each once.

    Args:
        configs: files, or names under ``configs/``.
        folder: where experts of the package index lie.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # nothing is seeded or run
    config = Parsed(["fit", *(word for name in configs for word in ("-c", name))]).config.fit
    cards = {part.name: part.card for part in all_parts()}
    users: dict[str, list[str]] = {}
    for class_name, named in _named(config.as_dict() if isinstance(config, Namespace) else config, ""):
        users.setdefault(named, []).append(class_name)
    return [
        entry_of(named, folder, ", ".join(dict.fromkeys(names)), next((cards[n] for n in names if n in cards), None))
        for named, names in users.items()
    ]


def _named(value: Any, class_name: str) -> Iterator[tuple[str, str]]:
    """Name of the class that takes it, and the checkpoint."""
    if isinstance(value, dict):
        own = str(value.get("class_path") or "").rpartition(".")[2] or class_name
        for key, each in value.items():
            if isinstance(each, str | Path) and (key in FIELDS or is_address(each)):
                yield own, str(each)
            else:
                yield from _named(each, own)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _named(each, class_name)
