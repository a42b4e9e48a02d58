"""What a folder holds of a run: which stages are over, from which data, of how many steps, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from isthmus.cli.runs.results import figures_of

DEPTH = 4
"""Folders below the one that is searched."""
CONFIG, MANIFEST, CHECKPOINT, RECORD = "config.yaml", "manifest.json", "checkpoints/last.ckpt", "run.json"
FACTS = ("versions", "commit", "engine", "precision", "seeds", "data")
"""What of a run's record says how it was made."""
APART = ("checkpoints", "lightning_logs")


@dataclass
class Stage:
    """A stage of a run.

    Attributes:
        name: its own.
        is_over: whether its weights are there.
        length: how long it is, as ``250 steps``; empty where no config says.
        data: the names of its sources.
    """

    name: str
    is_over: bool
    length: str = ""
    data: list[str] = field(default_factory=list)


@dataclass
class Run:
    """A run's folder, or a folder of one stage's weights alone, as an import leaves it."""

    folder: Path
    stages: list[Stage]
    figures: dict[str, str] = field(default_factory=dict)
    step: int | None = None
    changed: float = 0.0
    starts: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def runs_in(folder: Path, depth: int = DEPTH) -> Iterator[Run]:
    """The runs in a folder and below it, each before those within it; earlier ones that were set aside too."""
    if (run := read_run(folder)) is not None:
        yield run
    if depth:
        stages = set() if run is None else {stage.name for stage in run.stages}
        for below in sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in APART):
            if below.name.removesuffix(".previous") not in stages and not below.name.startswith("."):
                yield from runs_in(below, depth - 1)


def read_run(folder: Path) -> Run | None:
    """What a folder holds; None if it isn't a run's."""
    if (folder / MANIFEST).is_file():
        manifests = {str(_json(folder / MANIFEST).get("stage", folder.name)): _json(folder / MANIFEST)}
    else:
        manifests = {path.parent.name: _json(path) for path in sorted(folder.glob(f"*/{MANIFEST}"))}
        manifests = {name: own for name, own in manifests.items() if own.get("stage") == name}
    training = read_config(folder).get("training") or {}
    last = folder / CHECKPOINT
    if not manifests and not training and not last.exists():
        return None
    known = training.get("stages") or {}
    names = [*(training.get("run") or known), *manifests]
    stages = [_stage(name, known.get(name) or {}, manifests.get(name)) for name in dict.fromkeys(names)]
    files = [
        path for path in (folder / CONFIG, last, *folder.glob(f"*/{MANIFEST}"), folder / MANIFEST) if path.exists()
    ]
    run = Run(folder, stages, figures_of(folder), changed=max(path.stat().st_mtime for path in files))
    run.starts = [start for start in read_record(folder).get("starts") or [] if isinstance(start, dict)]
    if last.exists() and not all(stage.is_over for stage in stages):
        from isthmus.training.checkpoints.found import step_of

        run.step = step_of(last)
    return run


def read_config(folder: Path) -> dict[str, Any]:
    """A run's configuration; empty if there is none that can be read."""
    try:
        found = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def read_record(folder: Path) -> dict[str, Any]:
    """What a run says of itself; empty if it says nothing that can be read."""
    return _json(folder / RECORD)


def read_facts(folder: Path) -> dict[str, Any]:
    """How a run was made, by its record: versions, commit, engine, precision, seeds, data, number of processes."""
    record = read_record(folder)
    facts = {name: record[name] for name in FACTS if name in record}
    processes = [start.get("processes") for start in record.get("starts") or [] if isinstance(start, dict)]
    return facts | ({"processes": processes[-1]} if processes else {})


def _stage(name: str, configured: dict[str, Any], manifest: dict[str, Any] | None) -> Stage:
    told = [f"{configured[unit]:,} {unit}" for unit in ("steps", "epochs") if configured.get(unit) is not None]
    data = list((manifest or {}).get("data") or configured.get("data") or [])
    return Stage(name, manifest is not None, told[0] if told else "", data)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
