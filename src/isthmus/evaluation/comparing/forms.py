"""A leaderboard as Markdown, CSV, JSON and a page of HTML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from isthmus.evaluation.comparing.leaderboard import Column, Table, table_differences
from isthmus.evaluation.comparing.stored import ARROWS

NOTE = (
    "Bold: the best of its column, and those that can't be told from it (pairs of scores, else intervals, at 95 %). "
    "Arrows: which values are better. Runs of different protocols stand in different tables or columns."
)


def as_markdown(tables: Sequence[Table]) -> str:
    """Tables that a terminal shows, too."""
    parts = [f"{_title(tables, place)}{_markdown(table)}" for place, table in enumerate(tables)]
    return "\n\n".join([*parts, NOTE])


def as_csv(tables: Sequence[Table]) -> str:
    """A line for each run and figure: what a spreadsheet or pandas takes."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", "run", "figure", "protocol", "value", "low", "high", "n", "better", "best"])
    for place, table in enumerate(tables, start=1):
        for run in table.runs:
            for column in table.columns:
                if run in column.cells:
                    own = column.cells[run]
                    bounds = ("", "") if own.interval is None else own.interval
                    known = [own.value, *bounds, "" if own.n is None else own.n, own.better, int(run in column.ties)]
                    writer.writerow([place, run, column.name, column.key, *known])
    return file.getvalue()


def as_json(tables: Sequence[Table]) -> str:
    """All that is known, with each figure's protocol."""
    told = [
        {
            "runs": list(table.runs),
            "figures": [
                {
                    "name": column.name,
                    "protocol": column.protocol,
                    "cells": {run: _plain(column, run) for run in table.runs if run in column.cells},
                }
                for column in table.columns
            ],
        }
        for table in tables
    ]
    return json.dumps(told, indent=2, ensure_ascii=False, default=str)


def as_html(tables: Sequence[Table]) -> str:
    """One self-contained page: no script, and nothing to fetch."""
    from isthmus.display.pages import templates

    here = files(__package__)
    template = templates().from_string(here.joinpath("leaderboard.html.jinja").read_text(encoding="utf-8"))
    told = [
        {
            "title": _title(tables, place).strip("\n# "),
            "differs": list(table_differences(tables[0], table).items()) if place else [],
            "columns": [_heading(table, column) for column in table.columns],
            "rows": [(run, [_html(column, run) for column in table.columns]) for run in table.runs],
        }
        for place, table in enumerate(tables)
    ]
    style = here.joinpath("leaderboard.css").read_text(encoding="utf-8")
    return template.render(tables=told, note=NOTE, style=style)


FORMS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}


def shown(value: float) -> str:
    """A figure's digits."""
    return f"{value:.4g}"


def _title(tables: Sequence[Table], place: int) -> str:
    return "" if len(tables) == 1 else f"## Protocol {place + 1}\n\n"


def _heading(table: Table, column: Column) -> str:
    """A figure's name; where the table has it by several protocols, with the digest of its own."""
    twice = sum(each.name == column.name for each in table.columns) > 1
    better = next(iter(column.cells.values())).better
    return f"{column.name} {ARROWS[better]}" + (f" ({column.key})" if twice else "")


def _markdown(table: Table) -> str:
    rows = [["run", *(_heading(table, column) for column in table.columns)]]
    rows += [[run, *(_cell(column, run) for column in table.columns)] for run in table.runs]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(column: Column, run: str) -> str:
    if run not in column.cells:
        return ""
    own = column.cells[run]
    value = f"**{shown(own.value)}**" if run in column.ties else shown(own.value)
    return value if own.interval is None else f"{value} [{shown(own.interval[0])}, {shown(own.interval[1])}]"


def _plain(column: Column, run: str) -> dict[str, Any]:
    own = column.cells[run]
    known = {"value": own.value, "interval": own.interval, "n": own.n, "better": own.better}
    return known | {"best": run in column.ties}


def _html(column: Column, run: str) -> dict[str, Any] | None:
    if run not in column.cells:
        return None
    own = column.cells[run]
    interval = "" if own.interval is None else f"{shown(own.interval[0])} to {shown(own.interval[1])}"
    n = "" if own.n is None else f"n {own.n}"
    return {"value": shown(own.value), "interval": interval, "n": n, "best": run in column.ties}
