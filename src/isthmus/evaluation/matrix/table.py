"""Counts -> the matrix as plain data and as a text table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.evaluation.intervals import CONFIDENCE, wilson_interval
from isthmus.evaluation.matrix.ceilings import Ceiling
from isthmus.evaluation.matrix.judge import Judge
from isthmus.evaluation.matrix.scoring import AFTER, ANSWER, BEFORE
from isthmus.evaluation.matrix.tally import Count, Place
from isthmus.modalities import MEDIA, known_media
from isthmus.types import Modality

DIGITS = 4
"""Decimal digits of figures: rounding is far below any interval."""


def matrix_report(
    cells: Mapping[Place, Count],
    judges: Mapping[str, Judge],
    values: Mapping[str, int],
    ceilings: Mapping[Modality, Ceiling],
) -> dict[str, Any]:
    """The matrix as plain data: ``cells``, ``arithmetic``, ``text_only``.

    A cell holds the accuracy of each attribute (None if the input doesn't determine it in the output), ``n``,
    ``interval`` by attribute, ``emitted`` (the share of replies with the requested medium), ``unrequested`` (with
    others), and ``chance``, ``ceiling`` and ``judge`` of its first attribute; ``by_attribute`` has these three for all
    attributes, with the number of scored prompts. Cells without prompts are None.

    Args:
        cells: their counts.
        judges: by modality.
        values: the number of values of each attribute; its reciprocal is the chance level.
        ceilings: by modality.
    """
    modalities = (Modality.TEXT, *known_media())
    outputs = [modality for modality in modalities if any(place[1].endswith(f"->{modality}") for place in cells)]
    # A row of what every model may take, measured or not; of other modalities where they were measured.
    common = (Modality.TEXT, *MEDIA)
    inputs = [m for m in modalities if m in common or any(place[1].startswith(f"{m}->") for place in cells)]

    def entry(task: str, cell: str, output: Modality) -> dict[str, Any] | None:
        count = cells.get((task, cell))
        if count is None:
            return None
        return _entry(count, judges[output].attributes, values, ceilings.get(output))

    report: dict[str, Any] = {
        "cells": {
            f"{given}->{output}": entry("matrix", f"{given}->{output}", output)
            for given in inputs
            for output in outputs
        },
        "arithmetic": {
            str(output): entry("arithmetic", output, output) for output in modalities if ("arithmetic", output) in cells
        },
        "text_only": {},
        "confidence": CONFIDENCE,
    }
    for name in (BEFORE, AFTER):
        if (count := cells.get(("text_only", name))) is not None:
            share = _share(count.right[ANSWER], count.n)
            report["text_only"] |= {name: share, "n": count.n}
            report["text_only"].setdefault("interval", {})[name] = _interval(count.right[ANSWER], count.n)
    return report


def _entry(
    count: Count, attributes: Sequence[str], values: Mapping[str, int], ceiling: Ceiling | None
) -> dict[str, Any]:
    scored = [name for name in attributes if name in count.scored]
    bounds = {
        name: {
            "n": count.scored[name],
            "chance": _rounded(1 / values[name]),
            "ceiling": None if ceiling is None else _rounded((ceiling.generated or {}).get(name)),
            "judge": None if ceiling is None else _rounded(ceiling.judge.get(name)),
        }
        for name in scored
    }
    first = bounds[scored[0]]
    return {
        **{name: _share(count.right[name], count.scored[name]) if name in scored else None for name in attributes},
        "n": count.n,
        **{name: first[name] for name in ("chance", "ceiling", "judge")},
        "interval": {name: _interval(count.right[name], count.scored[name]) for name in scored},
        "emitted": _share(count.emitted, count.n),
        "unrequested": _share(count.unrequested, count.n),
        "by_attribute": bounds,
    }


def _share(right: int, n: int) -> float:
    return round(right / n, DIGITS)


def _interval(right: int, n: int) -> list[float]:
    return [round(bound, DIGITS) for bound in wilson_interval(right, n)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def attribute_names(report: Mapping[str, Any]) -> list[str]:
    """The attributes that were scored in any cell, in the judges' order."""
    entries = [entry for part in ("cells", "arithmetic") for entry in report[part].values() if entry]
    return list(dict.fromkeys(name for entry in entries for name in entry["by_attribute"]))


def matrix_table(report: Mapping[str, Any]) -> str:
    """The report as aligned lines of text."""
    names = attribute_names(report)
    rows = [["input -> output", "n", *names, "emitted", "chance", "ceiling", "judge"]]
    for part, prefix in (("cells", ""), ("arithmetic", "image + audio -> ")):
        for cell, entry in report[part].items():
            label = prefix + cell.replace("->", " -> ")
            if entry is None:
                rows.append([label, "n/a", *["" for _ in rows[0][2:]]])
                continue
            accuracies = [_with_interval(entry.get(name), entry["interval"].get(name)) for name in names]
            bounds = [_plain(entry[name]) for name in ("emitted", "chance", "ceiling", "judge")]
            rows.append([label, str(entry["n"]), *accuracies, *bounds])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    if len(rows) == 1:
        lines = []
    elif names:
        lines += [
            f"accuracy with its {report['confidence']:.0%} interval; -: not carried by both sides; n/a: not measured;",
            f"chance, ceiling (generated from the true caption) and judge (on real media) are of the {names[0]}",
        ]
    text_only = report["text_only"]
    for name in (BEFORE, AFTER):
        if name in text_only:
            share = _with_interval(text_only[name], text_only["interval"][name])
            lines.append(f"text-only skill {name} tuning: {share} of {text_only['n']} answers word for word")
    return "\n".join(lines)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{value:.3f} [{interval[0]:.2f}, {interval[1]:.2f}]"
