"""What is loaded: the stage, the experts with their licences, and what was measured of the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from isthmus.model import AnyToAny
from isthmus.model.bundle import MANIFEST, read_manifest
from isthmus.model.sharing.unplaced import without_paths
from isthmus.part_card import PartCard

GALLERY = "/app/gallery"
"""Where the gallery of a model's run is; the query ``model`` names the model."""


@dataclass(frozen=True)
class Loaded:
    """A served model.

    Attributes:
        name: by which requests choose it.
        model: itself.
        folder: that training wrote, or None for a model that came from elsewhere.
    """

    name: str
    model: AnyToAny
    folder: Path | None = None

    def file(self, name: str) -> Path | None:
        """A file of the run beside or above the stage's folder."""
        places = [] if self.folder is None else [self.folder / name, self.folder.parent / name]
        return next((path for path in places if path.is_file()), None)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the folder says of itself, without paths of this machine."""
        if self.folder is None or not (self.folder / MANIFEST).is_file():
            return {}
        return without_paths(read_manifest(self.folder))


def about(loaded: Loaded) -> str:
    """The page on the model, as HTML."""
    model, name, manifest = loaded.model, loaded.name, loaded.manifest
    facts = [
        ("Name", name),
        ("Stage", str(manifest.get("stage", "not told"))),
        ("Takes", ", ".join(["text", *model.inputs])),
        ("Makes", ", ".join(["text", *model.outputs])),
    ]
    rows = []
    for role, expert in model.experts().items():
        card = getattr(type(expert), "card", None)
        code, weights = (card.code, card.weights) if isinstance(card, PartCard) else ("not told", "not told")
        checkpoint = manifest.get("experts", {}).get(role, {}).get("checkpoint", "not told")
        rows.append((role.replace(".", " of "), type(expert).__name__, str(checkpoint), code, weights))
    heads = ("Role", "Expert", "Checkpoint", "Licence of its code", "Licence of its published weights")
    return (
        f'<section class="isthmus-about"><h2>{escape(name)}</h2>{_facts(facts)}<h2>Experts</h2>'
        "<p>They are frozen; what was trained are the bridges between them. A checkpoint that isn't a published one "
        "has the licence of whoever trained it.</p>"
        f"{_table('Experts that are loaded', heads, rows)}</section>"
    )


def results(loaded: Loaded) -> str:
    """What was measured of the run, as HTML; empty if nothing is found.

    Raises:
        ValueError: its matrix is damaged.
    """
    figures = loaded.file("matrix.json")
    source = f"{GALLERY}?model={quote(loaded.name)}"
    frame = f'<iframe class="isthmus-gallery" src="{source}" title="Gallery of the run"></iframe>'
    return ("" if figures is None else matrix(figures)) + (frame if loaded.file("gallery.html") else "")


def matrix(path: Path) -> str:
    """The any-to-any matrix of a run as a table: shares of right answers, rows the inputs, columns the outputs.

    Raises:
        ValueError: the file isn't one of ours.
    """
    try:
        cells: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
        pairs = {tuple(cell.split("->")): figures for cell, figures in cells.items()}
        measured = max((str(name) for figures in pairs.values() for name in figures.get("interval", {})), key=str)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name}: damaged ({error}); measure the run anew") from error
    first = "digit" if any("digit" in figures for figures in pairs.values()) else measured
    outputs = list(dict.fromkeys(output for _, output in pairs))
    rows = [
        (source, *(_share(pairs.get((source, output), {}), first) for output in outputs))
        for source in dict.fromkeys(source for source, _ in pairs)
    ]
    heads = ("From", *(f"to {output}" for output in outputs))
    return (
        f'<section class="isthmus-about"><h2>Any to any</h2><p>Share of answers with the right {escape(first)}, '
        f"with its 95 % interval.</p>{_table('Any-to-any matrix', heads, rows)}</section>"
    )


def _share(figures: dict[str, Any], name: str) -> str:
    if figures.get(name) is None:
        return "–"
    low, high = figures.get("interval", {}).get(name, (None, None))
    between = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"{figures[name]:.3f}{between}"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in facts)}</dl>"


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(each)}</td>" for each in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="isthmus-wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
