"""Lightning's profilers by their short names, with reports that can be read: on the screen, or in the run's folder."""

from __future__ import annotations

import re
from pathlib import Path

from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

ROWS = 20
"""Of a table on a screen."""
WIDTH = 60
"""Of an action's name."""


class ScreenProfiler(SimpleProfiler):
    """Lightning's simple profiler, whose table has the longest actions, on lines of at most 100 characters."""

    def summary(self) -> str:
        """The table."""
        actions, _, total = self._make_report_extended()
        lines = [f"{'action':<{WIDTH}}  {'calls':>7}  {'mean, ms':>9}  {'total, s':>8}  {'%':>5}"]
        for name, mean, calls, seconds, share in actions[:ROWS]:
            lines.append(f"{_short(name):<{WIDTH}}  {calls:>7}  {mean * 1e3:>9.2f}  {seconds:>8.2f}  {share:>5.1f}")
        rest = f"; {len(actions) - ROWS} shorter ones aren't shown" if len(actions) > ROWS else ""
        return "\n".join(
            [f"{(self._stage or 'run').lower()}: {total:.1f} s; actions lie within one another{rest}", *lines]
        )


def profiler_of(name: str, folder: Path) -> Profiler:
    """The profiler that ``trainer.profiler`` names.

    Args:
        name: ``simple``, whose table goes to the screen; ``advanced`` (Python's calls) or ``pytorch`` (operators, and a
            trace), whose long reports are written as ``profile`` into a folder.
        folder: the run's.

    Raises:
        ValueError: there is none of this name.
    """
    match name:
        case "simple":
            return ScreenProfiler()
        case "advanced":
            return AdvancedProfiler(dirpath=folder, filename="profile")
        case "pytorch":
            return PyTorchProfiler(dirpath=folder, filename="profile")
    raise ValueError(f"trainer.profiler: found '{name}'; expected simple, advanced or pytorch. Fix: choose one.")


def _short(action: str) -> str:
    """An action's name without its callback's settings, the end of it where it is still too long."""
    name = re.sub(r"\{.*\}", "", action).removeprefix("[LightningModule]").removeprefix("[Callback]")
    return name if len(name) <= WIDTH else f"...{name[3 - WIDTH :]}"
