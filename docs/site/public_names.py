"""The package's rooms and their public names, read from the sources without importing them."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src"

ROOMS = {
    "isthmus": "The names that most programs need.",
    "isthmus.model": "The whole model, and the three parts that it is made of.",
    "isthmus.encoders": "Media to F (B, N, D).",
    "isthmus.input_projectors": "F to P (B, M, E).",
    "isthmus.backbones": "P and text to text and S (B, S, E).",
    "isthmus.output_projectors": "S to H (B, C, K).",
    "isthmus.generators": "H to media.",
    "isthmus.data": "Files to conversations, conversations to batches.",
    "isthmus.data.plain": "Plain text beside media, and tests of what an LLM keeps.",
    "isthmus.data.formats": "Sets in the layouts that others publish.",
    "isthmus.data.formats.benchmarks": "Public benchmarks in their official layouts.",
    "isthmus.training": "Stages, objectives, and what a Trainer runs.",
    "isthmus.training.engines": "How several processes hold one model.",
    "isthmus.evaluation": "Measurements of a model.",
    "isthmus.evaluation.metrics.distances": "Made media against real ones, as distributions.",
    "isthmus.evaluation.metrics.extractors": "Media to the features that distances compare.",
    "isthmus.evaluation.metrics.paired": "Media beside their own reference, prompt or class.",
    "isthmus.evaluation.metrics.texts": "Words of answers against references.",
    "isthmus.evaluation.exports": "Answers as files for other projects' scorers.",
    "isthmus.evaluation.judged": "Metrics by the verdicts of a judge.",
}
"""Rooms that have a page of the reference, and what each is for."""


def homes(room: str) -> dict[str, str]:
    """Each public name of a room, in order, and the module that defines it: a room imports what it exports."""
    tree = ast.parse((SOURCES / room.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = {
        alias.name: str(node.module)
        for node in imports
        if node.module not in ("isthmus.exports", "isthmus.earlier.modules", "__future__", "typing")
        for alias in node.names
    }
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def addresses() -> dict[str, str]:
    """By each way of naming a public thing (alone, by its room, by its module), the address of its entry."""
    known: dict[str, str] = {}
    for room in ROOMS:
        for name, home in homes(room).items():
            for way in (name, f"{home}.{name}", f"{room}.{name}"):
                known[way] = f"{room}.{name}"
    return known
