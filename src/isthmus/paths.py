"""Paths as users name them: in a config, on the command line, in a chat, or as an argument in Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from isthmus.hub.address import is_address, parse_address
from isthmus.hub.snapshot import fetched

SHIPPED = ("checkpoints/pocket", "examples/captioned")
"""What travels with the package, as configs name it: the embedded experts, and a set of pictures."""

PACKAGE = Path(__file__).resolve().parent
EXPERTS = "isthmus_pocket"
"""The package that the distribution ``isthmus-pocket`` installs: the embedded experts alone, in no module."""


def checkpoint_path(named: str | Path) -> Path:
    """Where the checkpoint lies that a user named: as :func:`shipped_path`, or fetched from ``hf://org/name[@revision]``.

    Every constructor's ``checkpoint`` goes through this, and nothing else fetches.

    Raises:
        ValueError: an address that names no checkpoint in safetensors, or that can't be fetched; or an embedded expert,
            where these aren't installed.
    """
    if is_address(named):
        return fetched(parse_address(named))
    path = shipped_path(named)
    if path.is_relative_to(SHIPPED[0]) and not shipped_path(SHIPPED[0]).exists():
        raise ValueError(
            f"{path}: found no embedded experts, neither here nor installed. Fix: pip install isthmus-pocket, or start "
            "in a folder that has them."
        )
    return path


def shipped_path(named: str | Path) -> Path:
    """Where lies what a user or a config named to read it: as :func:`user_path`, or what came with the package.

    A relative path below one of :data:`SHIPPED` at which the present folder has nothing is sought beside the package.
    """
    path = user_path(named)
    if any(map(path.is_relative_to, SHIPPED)) and not path.exists():
        return next((root / path for root in _roots() if (root / path).exists()), path)
    return path


def shipped_name(path: Path) -> Path:
    """How configs name what lies at a path of the package's own; any other path is returned as it is."""
    for root in _roots():
        if any(path.is_relative_to(root / shipped) for shipped in SHIPPED):
            return path.relative_to(root)
    return path


def shipped_folder(name: str) -> Path:
    """A folder that every installation has: of the wheel, or of the clone that is installed."""
    return next(root / name for root in _roots() if (root / name).is_dir())


def _roots() -> Iterator[Path]:
    """Folders that may hold what is shipped: of ``isthmus-pocket``, of the wheel, and of a clone."""
    if (spec := find_spec(EXPERTS)) is not None:
        yield from map(Path, spec.submodule_search_locations or ())
    yield PACKAGE
    if (PACKAGE.parents[1] / "pyproject.toml").is_file():  # an editable install: src/isthmus in a clone
        yield PACKAGE.parents[1]


def user_path(named: str | Path) -> Path:
    """The path that a user named, with a leading ``~`` replaced by the home folder, as a shell does it.

    A shell leaves ``~`` alone inside of an option (``--out=~/x``), and YAML knows nothing of it. Every constructor and
    every option that takes a path calls this. Paths that stand inside data files don't: those never leave their root.
    """
    return Path(os.path.expanduser(named))  # unlike Path.expanduser, it keeps the name of a user that there isn't
