"""Pictures of the results, from their JSON files: ``python -m benchmarks.plots [results] [folder]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS

FOLDER = Path("docs/benchmarks")
INK, PALE = "#1f5f8b", "#c9d6df"


def draw(results: Path = RESULTS, folder: Path = FOLDER) -> list[Path]:
    """Draws what there are results for; the files."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draws in {"stages": _stages, "growth": _growth}.items():
        source = results / f"{name}.json"
        if source.is_file():
            figure = draws(json.loads(source.read_text(encoding="utf-8"))["rows"])
            figure.savefig(folder / f"{name}.png", dpi=80)
            drawn.append(folder / f"{name}.png")
    return drawn


def _stages(rows: list[dict[str, Any]]) -> Any:
    """Per stage a bar for each contender, and beside it what counting FLOPs allows."""
    from matplotlib.figure import Figure

    stages = sorted({row["stage"] for row in rows if isinstance(row["stage"], int)})
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, stage in zip(figure.subplots(1, len(stages), sharex=True), stages, strict=True):
        own = [row for row in rows if row["stage"] == stage and row["against ours"] != "ours"][::-1]
        names = [row["against ours"].replace("_", " ") for row in own]
        places = range(len(own))
        axes.barh([place + 0.2 for place in places], [row["times slower"] for row in own], 0.4, color=INK, label="time")
        axes.barh([p - 0.2 for p in places], [row["limit by FLOPs"] for row in own], 0.4, color=PALE, label="FLOPs")
        axes.set_yticks(list(places), names, fontsize=8)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_title(f"stage {stage}: times ours", fontsize=9)
    axes.legend(fontsize=8)
    return figure


def _growth(rows: list[dict[str, Any]]) -> Any:
    """Time and FLOPs over the smallest point, both axes logarithmic."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["grows"] for row in rows))
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds)), kinds, strict=True):
        own = [row for row in rows if row["grows"] == kind]
        at = [row["to"] for row in own]
        axes.loglog(at, [row["time"] for row in own], "o-", color=INK, label="time")
        axes.loglog(at, [row["FLOPs"] for row in own], "s--", color="#8a9aa5", label="FLOPs")
        axes.set_title(kind, fontsize=9)
        axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    for path in draw(*map(Path, sys.argv[1:3])):
        print(path)
