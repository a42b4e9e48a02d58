"""``--experts`` and ``--experts_root``: where experts lie on this machine, on every command that loads a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_experts(parser: Any) -> None:
    """Adds the options to a parser."""
    parser.add_argument(
        "--experts",
        action="append",
        default=[],
        metavar="ROLE=PATH",
        help="where an expert lies here: backbone=/models/vicuna, encoder.image=..., generator.audio=...; repeatable",
    )
    parser.add_argument(
        "--experts_root",
        type=str,  # a run's config holds it, and is written as plain values
        help="a folder with the other experts, under their configured paths or the ends of these",
    )


def expert_paths(options: Sequence[str]) -> dict[str, str | Path]:
    """Role -> path.

    Raises:
        ValueError: an option isn't ``ROLE=PATH``, or a role comes twice.
    """
    found: dict[str, str | Path] = {}
    for option in options:
        role, sign, path = option.partition("=")
        if not sign or not role or not path or role in found:
            raise ValueError(
                f"--experts {option}: expected ROLE=PATH, each role once, as backbone=/models/vicuna. Fix: correct it."
            )
        found[role] = path
    return found
