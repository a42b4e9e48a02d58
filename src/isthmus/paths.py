"""Paths as users name them: in a config, on the command line, in a chat, or as an argument in Python."""

from __future__ import annotations

import os
from pathlib import Path

from isthmus.hub.address import is_address, parse_address
from isthmus.hub.snapshot import fetched


def checkpoint_path(named: str | Path) -> Path:
    """Where the checkpoint lies that a user named: as :func:`user_path`, or fetched from ``hf://org/name[@revision]``.

    Every constructor's ``checkpoint`` goes through this, and nothing else fetches.

    Raises:
        ValueError: an address that names no checkpoint in safetensors, or that can't be fetched.
    """
    return fetched(parse_address(named)) if is_address(named) else user_path(named)


def user_path(named: str | Path) -> Path:
    """The path that a user named, with a leading ``~`` replaced by the home folder, as a shell does it.

    A shell leaves ``~`` alone inside of an option (``--out=~/x``), and YAML knows nothing of it. Every constructor and
    every option that takes a path calls this. Paths that stand inside data files don't: those never leave their root.
    """
    return Path(os.path.expanduser(named))  # unlike Path.expanduser, it keeps the name of a user that there isn't
