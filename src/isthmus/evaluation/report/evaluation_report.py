"""The report of an evaluation: its figures with intervals and protocol, and answers, as a page and as Markdown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from isthmus.data.conversations.schema import MediumItem, Message, TextItem
from isthmus.display.pages import shown_text
from isthmus.evaluation.comparing.differences import flat
from isthmus.evaluation.comparing.stored import ARROWS, METRICS, StoredFigure, read_result
from isthmus.evaluation.predictions.answered import Answered
from isthmus.evaluation.report.chosen import Group, SourceAnswers, chosen
from isthmus.evaluation.report.pages import own_file, piece, rendered
from isthmus.writing import write_file

PAGE, TEXT = "report.html", "report.md"


def write_evaluation_report(folder: Path, answers: Mapping[str, SourceAnswers], samples: int = 6) -> list[Path]:
    """Writes ``report.html``, one self-contained page, and ``report.md``; returns their paths.

    Args:
        folder: with ``metrics.json`` and ``scores.jsonl``.
        answers: by test source.
        samples: answers of each group: drawn at random, best and worst.

    Raises:
        ValueError: the folder has no figures, or a file can't be written.
    """
    figures = read_result(folder / METRICS).figures
    sources = {name: chosen(name, own, figures, samples) for name, own in answers.items()}
    names = dict.fromkeys([*(figure.partition("/")[0] for figure in figures), *answers])
    tables = {name: _of(figures, name) for name in names}
    style = own_file("gallery.css") + own_file("report.css")
    write_file(folder / PAGE, rendered("report.html.jinja", style, _page(folder, tables, sources)))
    write_file(folder / TEXT, _markdown(folder, tables, sources).encode())
    return [folder / PAGE, folder / TEXT]


def _of(figures: Mapping[str, StoredFigure], source: str) -> dict[str, StoredFigure]:
    return {name.partition("/")[2]: own for name, own in figures.items() if name.startswith(f"{source}/")}


def _page(
    folder: Path, tables: Mapping[str, Mapping[str, StoredFigure]], sources: Mapping[str, Sequence[Group]]
) -> dict[str, Any]:
    return {
        "title": folder.resolve().parent.name,
        "sources": [
            {
                "name": name,
                "figures": [_row(figure, own) for figure, own in table.items()],
                "protocols": [(" · ".join(names), told) for names, told in _protocols(table)],
                "groups": [
                    {"title": group.title, "answers": [_shown(*each) for each in group.samples]}
                    for group in sources.get(name, ())
                ],
            }
            for name, table in tables.items()
        ],
    }


def _row(name: str, own: StoredFigure) -> dict[str, str]:
    interval = "" if own.interval is None else f"{own.interval[0]:.4g} to {own.interval[1]:.4g}"
    return {"name": f"{name} {ARROWS[own.better]}", "value": f"{own.value:.4g}", "interval": interval, "n": str(own.n)}


def _protocols(table: Mapping[str, StoredFigure]) -> list[tuple[list[str], list[tuple[str, str]]]]:
    """Figures by their protocols: those that share one are named together."""
    found: dict[str, tuple[list[str], list[tuple[str, str]]]] = {}
    for name, own in table.items():
        told = [(key, str(value)) for key, value in flat(own.protocol or {})]
        found.setdefault(json.dumps(told), ([], told))[0].append(name)
    return list(found.values())


def _shown(answer: Answered, scores: Mapping[str, float]) -> dict[str, Any]:
    turns: list[tuple[str, str, list[dict[str, str]]]] = [
        (message.role, message.role, [piece(item) for item in message.content]) for message in answer.prompt
    ]
    given = [shown_text(answer.text)] if answer.text.strip() else []
    given += [piece(MediumItem(modality, path)) for modality, path in answer.files]
    turns.append(("assistant", "answer", given or [shown_text("(nothing)")]))
    if answer.expected is not None:
        turns.append(("reference", "reference", [piece(item) for item in answer.expected.content]))
    return {
        "id": answer.id,
        "turns": [{"role": role, "label": label, "pieces": pieces} for role, label, pieces in turns],
        "scores": [f"{name} {value:.3g}" for name, value in scores.items()],
    }


def _markdown(
    folder: Path, tables: Mapping[str, Mapping[str, StoredFigure]], sources: Mapping[str, Sequence[Group]]
) -> str:
    lines = [f"# Evaluation of {_escaped(folder.resolve().parent.name)}"]
    for name, table in tables.items():
        lines += ["", f"## {_escaped(name)}"]
        lines += ["", "| figure | value | 95 % interval | n |", "|---|---|---|---|"] if table else []
        for figure, own in table.items():
            row = _row(figure, own)
            lines.append("| " + " | ".join(_escaped(row[key]) for key in ("name", "value", "interval", "n")) + " |")
        for names, told in _protocols(table):
            lines += ["", f"Protocol of {_escaped(', '.join(names))}:", ""]
            lines += [f"- {_escaped(key)}: {_escaped(value)}" for key, value in told]
        for group in sources.get(name, ()):
            lines += ["", f"### {_escaped(name)}: {_escaped(group.title)}"]
            for answer, scores in group.samples:
                lines += ["", f"**{_escaped(answer.id)}**", ""]
                lines += [f"- {message.role}: {_told(message)}" for message in answer.prompt]
                media = [_link(folder, str(modality), path) for modality, path in answer.files]
                lines.append(f"- answer: {' '.join([_escaped(answer.text), *media]).strip() or '(nothing)'}")
                if answer.expected is not None:
                    lines.append(f"- reference: {_told(answer.expected)}")
                if scores:
                    numbers = ", ".join(f"{key} {value:.3g}" for key, value in scores.items())
                    lines.append(f"- scores: {_escaped(numbers)}")
    return "\n".join(lines) + "\n"


def _told(message: Message) -> str:
    """A message in a line: its media are named, as they lie elsewhere."""
    parts = []
    for item in message.content:
        if isinstance(item, TextItem):
            parts.append(_escaped(item.text))
        else:
            parts.append(_escaped(f"({item.modality}{f': {item.caption}' if item.caption else ''})"))
    return " ".join(part for part in parts if part)


def _link(folder: Path, name: str, path: Path) -> str:
    """A medium's file, relative to the report."""
    return f"[{name}]({quote(os.path.relpath(path, folder).replace(os.sep, '/'))})"


def _escaped(text: str) -> str:
    """Text in a line that Markdown takes as text: no markup, no HTML, no further cell of a table."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "`*_[]|#!":
        plain = plain.replace(mark, f"\\{mark}")
    return plain
