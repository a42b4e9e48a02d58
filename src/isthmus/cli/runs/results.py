"""The main figures of a run's result files, each file in a line."""

from __future__ import annotations

from pathlib import Path

from isthmus.evaluation.comparing.stored import METRICS, Result, StoredFigure, results_in

MAIN = 4
"""So many figures of a file are shown."""


def figures_of(folder: Path) -> dict[str, str]:
    """By result file of a folder its main figures in a line; a damaged one is said to be, and the list goes on."""
    try:
        return {name: _headline(name, result) for name, result in results_in(folder).items()}
    except ValueError as error:
        return {METRICS: str(error)}


def _headline(name: str, result: Result) -> str:
    figures = dict(result.figures)
    if name == "matrix.json":
        cells: dict[str, StoredFigure] = {}
        for key, own in figures.items():  # the first figure of a cell is its main one
            if key.startswith("cells."):
                cells.setdefault(key.rpartition(".")[0], own)
        if cells:
            what = next(key for key in figures if key.startswith("cells.")).rpartition(".")[2]
            mean = sum(own.value for own in cells.values()) / len(cells)
            n = next(iter(cells.values())).n
            return f"{what} {mean:.3f}, the mean of {len(cells)} cells of {n} prompts"
    if name == "captions.json":
        named = {key.removeprefix("model."): own for key, own in figures.items() if key.startswith("model.")}
        figures = {what: own for what, own in named.items() if what in ("cider_d", "rouge_l")}
    if name == "retrieval.json":
        figures = {what: own for what, own in figures.items() if what.endswith("recall_at_1")}
    if name == "talk.json":
        figures = {what: own for what, own in figures.items() if ".all." in what}
    shown = [f"{what.removesuffix('.share')} {own.value:.3g}" for what, own in list(figures.items())[:MAIN]]
    return (", ".join(shown) or "no figures") + (f" and {len(figures) - MAIN} more" if len(figures) > MAIN else "")
