"""Many runs in tables: a row a run, a column a figure; a table holds only what was measured by one protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any

from isthmus.evaluation.comparing.differences import differences
from isthmus.evaluation.comparing.paired import paired_interval
from isthmus.evaluation.comparing.stored import METRICS, Result, StoredFigure, results_in
from isthmus.paths import user_path

DEPTH = 4
"""Folders below the one that is searched."""
APART = ("checkpoints", "lightning_logs", "predictions")
PREVIOUS = "previous"


@dataclass(frozen=True)
class Column:
    """A figure by one protocol.

    Attributes:
        name: the figure's.
        key: a digest of the protocol.
        protocol: how it was measured; None where files don't say.
        cells: run -> the figure.
        ties: the best run, and those that can't be told from it.
    """

    name: str
    key: str
    protocol: Mapping[str, Any] | None
    cells: Mapping[str, StoredFigure]
    ties: frozenset[str]


@dataclass(frozen=True)
class Table:
    """Runs that share columns, the best by its first column, or by the one that was asked for, first."""

    runs: Sequence[str]
    columns: Sequence[Column]


def leaderboard(folder: str | Path, by: str | None = None, figures: Sequence[str] = ()) -> list[Table]:
    """The runs of a folder; those that no protocol joins stand in tables of their own, the largest first.

    Args:
        folder: with runs in it, up to four folders deep.
        by: the figure by which runs are sorted; their names if None.
        figures: patterns of the figures that are wanted. If there are none, those of ``metrics.json``, or of older
            files where no run has one.

    Raises:
        ValueError: there is no run with figures, or no figure is called so.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise ValueError(f"{root}: found no such folder; expected one with runs. Fix: name it.")
    runs = {name: dict(_figures(results)) for name, results in _runs(root)}
    if not any(runs.values()):
        raise ValueError(
            f"{root}: found no run with figures in it; expected evaluation/{METRICS} in folders of runs. Fix: measure "
            "them with isthmus evaluate, or name the folder that holds your runs."
        )
    is_new = any(from_metrics for own in runs.values() for _, from_metrics in own.values())
    wanted = {
        run: {
            name: figure
            for name, (figure, from_metrics) in own.items()
            if (any(fnmatch(name, pattern) for pattern in figures) if figures else from_metrics or not is_new)
        }
        for run, own in runs.items()
    }
    tables = [_sorted(table, by) for table in _joined(_columns(wanted))]
    known = dict.fromkeys(column.name for table in tables for column in table.columns)
    if not known or (by is not None and by not in known):
        asked = f"--by {by}" if known else f"--figures {' '.join(figures)}"
        have = dict.fromkeys(name for own in runs.values() for name in own)
        raise ValueError(
            f"{asked}: found no such figure; expected of {', '.join(list(known or have)[:20])}. Fix: name one of these."
        )
    return tables


def table_differences(first: Table, other: Table) -> dict[str, list[Any]]:
    """What differs between the protocols of two tables' common figures."""
    found: dict[str, list[Any]] = {}
    for one in first.columns:
        for two in other.columns:
            if one.name == two.name and one.key != two.key:
                found |= dict(differences(one.protocol, two.protocol))
    return found


def _runs(folder: Path, depth: int = DEPTH, name: str = "") -> Iterator[tuple[str, dict[str, Result]]]:
    if results := results_in(folder):
        yield name or folder.resolve().name, results
    for below in sorted(path for path in folder.iterdir() if path.is_dir()) if depth else ():
        own = below.name
        if own == "evaluation" and results:
            continue
        if own not in APART and not own.startswith((".", f"{PREVIOUS}-")) and not own.endswith(f".{PREVIOUS}"):
            yield from _runs(below, depth - 1, f"{name}/{own}".strip("/"))


def _figures(results: Mapping[str, Result]) -> Iterator[tuple[str, tuple[StoredFigure, bool]]]:
    """Name -> figure and whether it is of ``metrics.json``; an older file's name stands before its figures."""
    for file, result in results.items():
        is_new = file.rpartition("/")[2] == METRICS
        for name, figure in result.figures.items():
            yield (name if is_new else f"{file.removesuffix('.json')}/{name}"), (figure, is_new)


def _columns(runs: Mapping[str, Mapping[str, StoredFigure]]) -> list[Column]:
    cells: dict[tuple[str, str], dict[str, StoredFigure]] = {}
    for run, figures in runs.items():
        for name, figure in figures.items():
            told = {"n": figure.n} if figure.protocol is None else figure.protocol
            key = sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:8]
            cells.setdefault((name, key), {})[run] = figure
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in cells))}
    return [
        Column(name, key, next(iter(own.values())).protocol, own, _best(own))
        for (name, key), own in sorted(cells.items(), key=lambda item: order[item[0][0]])
    ]


def _best(cells: Mapping[str, StoredFigure]) -> frozenset[str]:
    """The best run, and those whose difference from it may be chance; empty where there is one run alone."""
    if len(cells) < 2:
        return frozenset()
    sign = 1 if next(iter(cells.values())).better == "higher" else -1
    best = max(cells, key=lambda run: sign * cells[run].value)
    return frozenset(run for run, own in cells.items() if run == best or _may_be_equal(cells[best], own))


def _may_be_equal(best: StoredFigure, other: StoredFigure) -> bool:
    """By pairs where both have scores, else by whether intervals meet, else by the values."""
    common = sorted(best.scores.keys() & other.scores.keys())
    if common:
        low, high = paired_interval([best.scores[name] - other.scores[name] for name in common])
        return low <= 0 <= high
    if best.interval is not None and other.interval is not None:
        return best.interval[0] <= other.interval[1] and other.interval[0] <= best.interval[1]
    return best.value == other.value


def _joined(columns: Sequence[Column]) -> list[Table]:
    """Columns that share runs, directly or through others, together."""
    groups: list[tuple[set[str], list[Column]]] = []
    for column in columns:
        runs, own = set(column.cells), [column]
        apart = []
        for group in groups:
            if group[0] & runs:
                runs, own = runs | group[0], [*group[1], *own]
            else:
                apart.append(group)
        groups = [*apart, (runs, own)]
    order = {id(column): place for place, column in enumerate(columns)}
    tables = [Table(sorted(runs), sorted(own, key=lambda each: order[id(each)])) for runs, own in groups]
    return sorted(tables, key=lambda table: (-len(table.runs), table.runs))


def _sorted(table: Table, by: str | None) -> Table:
    """By a figure: the best first, then those that don't have it."""
    own = [column for column in table.columns if column.name == by]
    if not own:
        return table

    def place(run: str) -> tuple[int, float, str]:
        for number, column in enumerate(own):
            if run in column.cells:
                cell = column.cells[run]
                return number, -cell.value if cell.better == "higher" else cell.value, run
        return len(own), 0.0, run

    return Table(sorted(table.runs, key=place), table.columns)
