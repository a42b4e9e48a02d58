"""``isthmus parts``: every part that the package has, as a table or as JSON, from the cards of the rooms' classes."""

from __future__ import annotations

import ast
import json
import re
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

OWN = {
    "isthmus.data.JsonLines": "isthmus.data.conversations.sources",
    "isthmus.data.Shards": "isthmus.data.streaming.source",
}
"""The package's own formats of sets -> where they are."""

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
        room = self.class_path.split(".")[1]
        return f"within {self.card.within}" if self.card.within else KINDS.get(room, "set")

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


@cache
def all_sets() -> tuple[Part, ...]:
    """Every format of sets, with what its class says first: what ``--format`` and a config's ``data`` take."""
    homes = {f"isthmus.data.formats.{name}": module for module, name in _exports("isthmus.data.formats")}
    found = []
    for class_path, module in (OWN | homes).items():
        for owner in _source(module).body:
            if isinstance(owner, ast.ClassDef) and owner.name == class_path.rpartition(".")[2]:
                told = ast.get_docstring(owner) or ""
                needs = re.search(r"Needs the extra ``(\w+)``", told)
                first = told.partition("\n\n")[0].replace("\n", " ").replace("``", "")
                takes = re.sub(r":\w+:`~?([^`]*)`", r"\1", first)
                extra = needs[1] if needs else ""
                card = PartCard(takes=takes, gives="conversations", widths="", weights="", checkpoint="", extra=extra)
                found.append(Part(class_path, card))
    return tuple(found)


def _exports(package: str) -> Iterator[tuple[str, str]]:
    """Module and name of what a package imports from within itself."""
    for node in ast.walk(_source(f"{package}.__init__")):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            yield from ((node.module, name.name) for name in node.names)


def _parts(room: str) -> Iterator[Part]:
    for module, name in _exports(f"isthmus.{room}"):
        match _card(module, name):
            case ast.Call(keywords=keywords):
                fields = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
                yield Part(f"isthmus.{room}.{name}", PartCard(**fields))


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
