"""``isthmus parts``: every part that the package has, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from isthmus.cli.inner_parts import INNER
from isthmus.cli.part_table import PARTS, Part

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
ALL = (*PARTS, *INNER)


def as_json(parts: Sequence[Part] = ALL) -> str:
    """A list of objects: the fields of :class:`Part`, and ``kind``."""
    return json.dumps([{"kind": part.kind, **asdict(part)} for part in parts], indent=2, ensure_ascii=False)


def as_text(parts: Sequence[Part] = ALL) -> str:
    """One block a kind, aligned columns, a line a part."""
    rows = {part: [part.class_path, *(getattr(part, field) or "-" for field in COLUMNS)] for part in parts}
    blocks = []
    for kind in dict.fromkeys(part.kind for part in parts):
        lines = [[kind, *COLUMNS.values()], *(rows[part] for part in parts if part.kind == kind)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        blocks.append("\n".join(line.rstrip() for line in padded))
    return "\n\n".join(blocks)
