"""Text and media as HTML: what the gallery and a notebook share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from isthmus.display.embedding import embedded
from isthmus.types import Media

if TYPE_CHECKING:
    from jinja2 import Environment

NOTEBOOK = 512
"""Longer side of pictures in a notebook, in pixels."""


@cache
def templates() -> Environment:
    """The templates of this room; every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("isthmus", "display"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style() -> str:
    """How media look."""
    return files(__package__).joinpath("media.css").read_text(encoding="utf-8")


def script() -> str:
    """Draws the point clouds of a page, turns those that are in sight, and lets readers turn them."""
    return files(__package__).joinpath("clouds.js").read_text(encoding="utf-8")


def shown_text(text: str) -> dict[str, str]:
    """A text as the templates take it."""
    return {"kind": "text", "text": text.strip()}


def fragment(content: Sequence[str | Media], notes: Sequence[str] = ()) -> str:
    """Pieces of text and media as a part of a page, with its own style and script.

    Args:
        content: the pieces, in order.
        notes: small lines below them.
    """
    pieces: list[dict[str, Any]] = [
        shown_text(piece) if isinstance(piece, str) else embedded(piece, NOTEBOOK) for piece in content
    ]
    has_clouds = any(piece["kind"] == "points" for piece in pieces)
    return (
        templates()
        .get_template("fragment.html.jinja")
        .render(pieces=pieces, notes=notes, style=style(), script=script() if has_clouds else "")
    )
