"""The matrix on a screen: a row for each input, a column for each output, and the least of each attribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.evaluation.matrix.scoring import AFTER, BEFORE
from isthmus.evaluation.matrix.table import attribute_names

SUM = "image + audio, the sum"


def matrix_grid(report: Mapping[str, Any]) -> str:
    """The report as a grid of its first attribute's accuracy, with the lowest cell of each attribute and of the media.

    :func:`~isthmus.evaluation.matrix.table.matrix_table` has every figure.

    Args:
        report: of :func:`~isthmus.evaluation.matrix.table.matrix_report`.
    """
    names, lines = attribute_names(report), []
    if names:
        pairs = {tuple(cell.split("->")): entry for cell, entry in report["cells"].items()}
        pairs |= {(SUM, output): entry for output, entry in report["arithmetic"].items()}
        outputs = list(dict.fromkeys(output for _, output in pairs))
        rows = [[f"{names[0]}: from \\ to", *outputs]]
        for given in dict.fromkeys(given for given, _ in pairs):
            rows.append([given, *(_cell(pairs.get((given, output)), names[0]) for output in outputs)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines += [_lowest(name, pairs, report["confidence"]) for name in names]
        emitted = min((entry["emitted"], *place) for place, entry in pairs.items() if entry)
        lines.append(f"replies with the medium asked for: at least {emitted[0]:.3f} ({emitted[1]} -> {emitted[2]})")
        others = max((entry["unrequested"], *place) for place, entry in pairs.items() if entry)
        lines.append(f"replies with another medium: at most {others[0]:.3f} ({others[1]} -> {others[2]})")
    text_only = report["text_only"]
    told = []
    for name in (each for each in (BEFORE, AFTER) if each in text_only):
        low, high = text_only["interval"][name]
        told.append(f"{text_only[name]:.3f} [{low:.2f}, {high:.2f}] {name} tuning")
    if told:
        lines.append(f"text-only skill: {', '.join(told)}, of {text_only['n']} answers word for word")
    return "\n".join(lines)


def _cell(entry: Mapping[str, Any] | None, name: str) -> str:
    return "-" if entry is None or entry.get(name) is None else f"{entry[name]:.3f}"


def _lowest(name: str, pairs: Mapping[tuple[str, ...], Mapping[str, Any] | None], confidence: float) -> str:
    own = {place: entry for place, entry in pairs.items() if entry and entry.get(name) is not None}
    place, entry = min(own.items(), key=lambda item: item[1][name])
    low, high = entry["interval"][name]
    bounds = entry["by_attribute"][name]
    return (
        f"{name}: {entry[name]:.3f} to {max(each[name] for each in own.values()):.3f}; lowest {' -> '.join(place)} "
        f"[{low:.2f}, {high:.2f}] ({confidence:.0%} interval, n = {bounds['n']}); chance {bounds['chance']:.2f}"
    )
