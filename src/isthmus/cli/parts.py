"""``isthmus parts``: every part that the package has, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from isthmus.cli.part_table import KINDS, PARTS, Part

COLUMNS = {
    "takes": "takes",
    "gives": "gives",
    "widths": "widths",
    "code": "code",
    "weights": "weights",
    "extra": "extra",
    "checkpoint": "reads",
}
"""Field of :class:`Part` -> heading of its column, after the class's own."""


def as_json(parts: Sequence[Part] = PARTS) -> str:
    """A list of objects: the fields of :class:`Part`, and ``kind``."""
    return json.dumps([{"kind": part.kind, **asdict(part)} for part in parts], indent=2, ensure_ascii=False)


def as_text(parts: Sequence[Part] = PARTS) -> str:
    """One block a kind, aligned columns, a line a part."""
    rows = {part: [part.class_path, *(getattr(part, field) or "-" for field in COLUMNS)] for part in parts}
    blocks = []
    for kind in KINDS.values():
        head = [kind, *COLUMNS.values()]
        lines = [head, *(rows[part] for part in parts if part.kind == kind)]
        if len(lines) == 1:
            continue
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        blocks.append("\n".join(line.rstrip() for line in padded))
    return "\n\n".join(blocks)
