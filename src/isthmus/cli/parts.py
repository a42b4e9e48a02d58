"""``isthmus parts``: every part that the package has, as a table or as JSON, from the cards of the rooms' classes."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

from isthmus.part_card import PartCard

KINDS = {
    "encoders": "encoder",
    "input_projectors": "input projector",
    "backbones": "backbone",
    "output_projectors": "output projector",
    "generators": "generator",
}
"""Room -> what its parts are, in the order in which data flows through them."""

COLUMNS = {
    "takes": "takes",
    "gives": "gives",
    "widths": "widths",
    "code": "code",
    "weights": "weights",
    "extra": "extra",
    "checkpoint": "reads",
}
"""Field of :class:`PartCard` -> heading of its column, after the class's own."""


@dataclass(frozen=True)
class Part:
    """A class that a config can name, and its card."""

    class_path: str
    card: PartCard

    @property
    def kind(self) -> str:
        """What it is, by its room; or what it stands within."""
        return f"within {self.card.within}" if self.card.within else KINDS[self.class_path.split(".")[1]]

    @property
    def name(self) -> str:
        """The class's own name."""
        return self.class_path.rpartition(".")[2]


@cache
def all_parts() -> tuple[Part, ...]:
    """Every class with a card that a room exports, in the order of data, then those within a part.

    Cards are read from the source: importing the rooms would load torch.
    """
    found = [part for room in KINDS for part in _parts(room)]
    return tuple(sorted(found, key=lambda part: bool(part.card.within)))


def _parts(room: str) -> Iterator[Part]:
    for node in ast.walk(_source(f"isthmus.{room}.__init__")):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"isthmus.{room}."):
            for name in node.names:
                match _card(node.module, name.name):
                    case ast.Call(keywords=keywords):
                        fields = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
                        yield Part(f"isthmus.{room}.{name.name}", PartCard(**fields))


def _card(module: str, name: str) -> ast.expr | None:
    """The right-hand side of ``card = ...`` in the body of a class."""
    for owner in _source(module).body:
        if isinstance(owner, ast.ClassDef) and owner.name == name:
            for line in owner.body:
                match line:
                    case ast.Assign(targets=[ast.Name(id="card")], value=value):
                        return value
    return None


def _source(module: str) -> ast.Module:
    file = files("isthmus").joinpath(*module.split(".")[1:-1], module.rsplit(".", maxsplit=1)[-1] + ".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def as_json(parts: Sequence[Part]) -> str:
    """A list of objects: the fields of :class:`PartCard`, ``kind`` and ``class_path``."""
    rows = [{"kind": part.kind, "class_path": part.class_path, **asdict(part.card)} for part in parts]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_text(parts: Sequence[Part]) -> str:
    """One block a kind, aligned columns, a line a part."""
    rows = {part: [part.class_path, *(getattr(part.card, field) or "-" for field in COLUMNS)] for part in parts}
    blocks = []
    for kind in dict.fromkeys(part.kind for part in parts):
        lines = [[kind, *COLUMNS.values()], *(rows[part] for part in parts if part.kind == kind)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        blocks.append("\n".join(line.rstrip() for line in padded))
    return "\n\n".join(blocks)
