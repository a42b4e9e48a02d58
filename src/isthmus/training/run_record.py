"""``run.json`` in a run's folder: what it was made of, on what it ran, and how each of its starts ended."""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from pytorch_lightning.utilities.exceptions import SIGTERMException

from isthmus.data.module import ConversationDataModule
from isthmus.training.faults.non_finite import SkipNonFinite
from isthmus.training.provenance import provenance
from isthmus.training.running.callbacks import callbacks_of, is_trial
from isthmus.training.stage_switch import StageSwitch
from isthmus.writing import write_file

log = logging.getLogger(__name__)

RECORD = "run.json"
LIBRARIES = (
    "isthmus",
    "torch",
    "pytorch-lightning",
    "transformers",
    "diffusers",
    "peft",
    "accelerate",
    "safetensors",
    "numpy",
)
"""Whose versions decide over a run's figures."""
UNSAID = "it ended without a word: killed, or its machine failed"
OVER = "over"


class RunRecord(pl.Callback):
    """Writes the record when training starts, and again when it ends. Every run of the command line has one.

    A run that goes on from a checkpoint adds its start to those before it.
    """

    def __init__(self) -> None:
        self._config: dict[str, Any] | None = None
        self._record: dict[str, Any] = {}

    def configured(self, trainer: pl.Trainer, config: dict[str, Any]) -> None:
        """Takes all that was configured into the record; a run that is begun in Python has none."""
        self._config = config
        if self._record:
            self._record["config"] = config
            self._write(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Every process says where it runs; the first one writes."""
        own = _place(trainer, pl_module)
        places = [own]
        if trainer.world_size > 1:
            found: list[Any] = [None] * trainer.world_size
            distributed.all_gather_object(found, own)
            places = found
        data: Any = getattr(trainer, "datamodule", None)
        if _file(trainer) is None or not isinstance(data, ConversationDataModule):
            return
        (switch,) = callbacks_of(trainer, StageSwitch)
        stages = [switch.stages[name] for name in switch.names]
        mixed = {name for stage in stages for name in stage.data or data.sources}
        start = {
            "begun": _now(),
            "ended": None,
            "outcome": None,
            "from_step": trainer.global_step,
            "to_step": None,
            "processes": trainer.world_size,
            "nodes": trainer.num_nodes,
            "places": places,
        }
        self._record = {
            "stages": list(switch.names),
            "engine": type(trainer.strategy).__name__,
            "precision": str(trainer.precision),
            "seeds": {"everything": os.environ.get("PL_GLOBAL_SEED"), "data": data.seed},
            "versions": versions(),
            "commit": commit(Path(__file__).parents[3]),
            "data": provenance(data.sources, mixed),
            "config": self._config,
            "starts": [*_earlier(_file(trainer)), start],
            "skipped_steps": 0,
        }
        self._write(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that has learnt all of its stages, or that something has stopped."""
        for switch in callbacks_of(trainer, StageSwitch):
            self._end(trainer, (switch.breaking_off.why or "a callback") if switch.unfinished else OVER)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A run that a signal or an error has ended."""
        for switch in callbacks_of(trainer, StageSwitch):
            said = f"{type(exception).__name__}: {exception}".splitlines()[0]
            is_over = not switch.unfinished and isinstance(exception, SIGTERMException)  # it came too late
            self._end(trainer, OVER if is_over else switch.breaking_off.signals.name or said)

    def _end(self, trainer: pl.Trainer, outcome: str) -> None:
        if not self._record:
            return
        self._record["starts"][-1] |= {"ended": _now(), "outcome": outcome, "to_step": trainer.global_step}
        self._record["skipped_steps"] = sum(each.skipped for each in callbacks_of(trainer, SkipNonFinite))
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        file = _file(trainer)
        if file is None:
            return
        try:
            write_file(file, json.dumps(self._record, indent=2, ensure_ascii=False, default=str).encode())
        except ValueError as error:  # a run isn't ended by a full disk while its checkpoints find room
            log.warning("%s", error)


def versions() -> dict[str, str]:
    """Of this package, Python and the libraries that decide over a run's figures, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    return found


def commit(root: Path) -> dict[str, Any] | None:
    """The commit of a clone, and whether its files differ from it; None where it is no clone, or git isn't there."""
    if not (root / ".git").exists():
        return None
    asked = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    commands = [["git", "-C", str(root), *each] for each in asked]
    try:
        said = [subprocess.run(each, capture_output=True, text=True, check=True) for each in commands]
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"id": said[0].stdout.strip(), "is_dirty": bool(said[1].stdout.strip())}


def _place(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
    """Where a process runs."""
    device = module.device
    return {
        "rank": trainer.global_rank,
        "host": socket.gethostname(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _file(trainer: pl.Trainer) -> Path | None:
    """Where this process writes; None where it doesn't."""
    switches = callbacks_of(trainer, StageSwitch)
    return switches[0].folder / RECORD if switches and trainer.is_global_zero and not is_trial(trainer) else None


def _earlier(file: Path | None) -> list[dict[str, Any]]:
    """The starts that a record holds."""
    if file is None or not file.is_file():
        return []
    try:
        starts: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["starts"]
    except (ValueError, KeyError, TypeError):
        log.warning("%s: found no record of a run; it is written anew", file)
        return []
    return [start | {"outcome": start.get("outcome") or UNSAID} for start in starts]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
