"""Curves of runs, from their TensorBoard files.

``python -m benchmarks.curves PICTURE TAG[,TAG...] ... -- RUN [RUN ...]``: every argument before ``--`` but the first is
a panel, and the tags in it share its axes.
"""

from __future__ import annotations

import sys
from pathlib import Path

Series = dict[str, tuple[list[int], list[float]]]


def read(run: Path) -> Series:
    """Tag -> its steps and values, over all of the run's files.

    Raises:
        ValueError: the folder holds no TensorBoard files.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Series = {}
    files = sorted(run.rglob("events.out.tfevents.*"))
    if not files:
        raise ValueError(f"{run}: found no TensorBoard files; expected a run's folder. Fix: name training.folder.")
    for file in files:
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            steps, values = found.setdefault(tag, ([], []))
            for event in events.Scalars(tag):
                steps.append(event.step)
                values.append(event.value)
    return found


def draw(picture: Path, panels: list[list[str]], runs: list[Path]) -> Path:
    """The picture of these panels: one line a tag and run."""
    from matplotlib.figure import Figure

    series = {run.name: read(run) for run in runs}
    figure = Figure(figsize=(3.4 * len(panels), 2.6), layout="constrained")
    for axes, tags in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, found in series.items():
            for tag in tags:
                if tag in found:
                    label = tag.split("/")[-1] if len(runs) == 1 else f"{name}: {tag.split('/')[-1]}"
                    axes.plot(*found[tag], label=label, linewidth=1.2)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=80)
    return picture


def main(arguments: list[str]) -> None:
    """The command line."""
    cut = arguments.index("--")
    picture, *panels = arguments[:cut]
    print(draw(Path(picture), [panel.split(",") for panel in panels], [Path(run) for run in arguments[cut + 1 :]]))


if __name__ == "__main__":
    main(sys.argv[1:])
