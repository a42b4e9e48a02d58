"""``isthmus runs``: the runs of a folder, with their stages, data, steps and figures."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from jsonargparse import Namespace

from isthmus.cli.parsing.parser import Parser
from isthmus.cli.runs.found import Run, runs_in
from isthmus.paths import user_path


def parser() -> Parser:
    """The command's options."""
    made = Parser(
        description="Lists runs: which stages are over, from which data, of how many steps, how they ended, figures."
    )
    made.add_argument("folder", type=user_path, nargs="?", default=Path("runs"), help="to look in; four folders deep")
    made.add_argument("--json", action="store_true", help="a list of objects instead of text")
    return made


def run(options: Namespace) -> None:
    """Lists them, the newest last.

    Raises:
        ValueError: there is no such folder, or no run in it.
    """
    if not options.folder.is_dir():
        raise ValueError(f"{options.folder}: found no such folder; expected one with runs. Fix: name it.")
    found = sorted(runs_in(options.folder), key=lambda run: run.changed)
    if not found:
        raise ValueError(
            f"{options.folder}: found no run in it; expected folders with config.yaml, checkpoints or trained stages. "
            "Fix: name the folder that holds your runs (training.folder of their configs)."
        )
    told = [run.as_dict() for run in found]
    print(json.dumps(told, indent=2, ensure_ascii=False) if options.json else "\n\n".join(map(as_text, found)))


def as_text(run: Run) -> str:
    """A run in a few lines."""
    lines = [f"{run.folder}  ({datetime.fromtimestamp(run.changed):%Y-%m-%d %H:%M})"]
    for stage in run.stages:
        state = "over" if stage.is_over else "not over"
        data = f"; {', '.join(stage.data)}" if stage.data else ""
        lines.append(f"  {stage.name}: {', '.join(filter(None, [state, stage.length]))}{data}")
    if run.starts:
        last = run.starts[-1]
        count, processes = len(run.starts), last.get("processes")
        begun = f"begun {last.get('begun')}" + (f" (start {count})" if count > 1 else "")
        ended = f"ended {last['ended']}: {last.get('outcome')}" if last.get("ended") else "not ended"
        lines.append(f"  {begun} on {processes} process{'' if processes == 1 else 'es'}; {ended}")
    if run.step is not None:
        lines.append(f"  last checkpoint: after {run.step:,} steps of all stages; --ckpt_path last goes on there")
    lines += [f"  {name}: {figures}" for name, figures in run.figures.items()]
    return "\n".join(lines)
