"""Result files of a run's folder: figures by name, their intervals, and the protocol by which they were measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROTOCOL = "protocol"
BESIDE = {PROTOCOL, "samples", "interval", "by_attribute", "confidence"}
"""Fields of a result file that aren't figures: :mod:`isthmus.evaluation` says what each file holds."""


@dataclass
class Result:
    """One result file.

    Attributes:
        path: of the file.
        figures: dotted name -> number.
        intervals: of those that have one, its bounds.
        protocol: None where the file is of a version that didn't write it.
    """

    path: Path
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    protocol: dict[str, Any] | None = None


def read_result(path: Path) -> Result:
    """The figures of a file.

    Raises:
        ValueError: it isn't a result file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: it can't be read as JSON ({error}). Fix: name a result file, as matrix.json."
        ) from error
    result = Result(path, {}, {}, content.get(PROTOCOL) if isinstance(content, dict) else None)
    if isinstance(content, dict):
        for name, value, interval in _figures(content):
            result.figures[name] = value
            if interval is not None:
                result.intervals[name] = interval
    if not result.figures:
        raise ValueError(f"{path}: found no figures; expected what a test run writes, as matrix.json.")
    return result


def results_in(folder: Path) -> dict[str, Result]:
    """The result files of a run's folder, by name; other JSON files are passed over."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != "manifest.json":
            try:
                found[path.name] = read_result(path)
            except ValueError:
                continue
    return found


def figures_of(folder: Path) -> dict[str, str]:
    """By result file of a folder its main figures in a line."""
    return {name: _headline(name, result) for name, result in results_in(folder).items()}


def _headline(name: str, result: Result) -> str:
    figures = result.figures
    if name == "matrix.json":
        cells = [cell for cell in figures if cell.startswith("cells.") and cell.endswith(".n")]
        firsts = [next(iter(_of(figures, cell.removesuffix("n")).items())) for cell in cells]
        if firsts:
            what = firsts[0][0]
            mean = sum(share for _, share in firsts) / len(firsts)
            return f"{what} {mean:.3f}, the mean of {len(cells)} cells of {figures[cells[0]]:g} prompts"
    if name == "captions.json":
        figures = {what: value for what, value in _of(figures, "model.").items() if what in ("cider_d", "rouge_l")}
    if name == "retrieval.json":
        figures = {what: value for what, value in figures.items() if what.endswith("recall_at_1")}
    if name == "talk.json":
        figures = {what: value for what, value in figures.items() if ".all." in what}
    figures = {what.removesuffix(".share"): value for what, value in figures.items() if not is_count(what)}
    shown = [f"{what} {value:.3g}" for what, value in list(figures.items())[:4]]
    return ", ".join(shown) + (f" and {len(figures) - 4} more" if len(figures) > 4 else "")


def is_count(name: str) -> bool:
    """Whether a figure is a number of samples."""
    return name.rpartition(".")[2] == "n"


def _of(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in figures.items() if name.startswith(prefix)}


def _figures(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float, tuple[float, float] | None]]:
    for key, value in content.items():
        if key in BESIDE or key.endswith("_interval"):
            continue
        if isinstance(value, dict):
            yield from _figures(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value), _interval(content, key)


def _interval(content: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    beside = content.get("interval")
    own = beside.get(key) if isinstance(beside, dict) else beside if key == "share" else None
    bounds = content.get(f"{key}_interval") or own
    if isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(each, int | float) for each in bounds):
        return float(bounds[0]), float(bounds[1])
    return None
