"""What a checkpoint says of the run that wrote it, held against the run that goes on from it.

A difference that is safe within a stage (learning rate, weight decay, LoRA's dropout, loss weights, the schedule's
form) is told, and the new value is taken. One that would make the stored state mean something else (what trains, the
optimizer's class, LoRA's scale, the data's order, an expert's weights) is refused.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from isthmus.cache.fingerprint import fingerprint
from isthmus.earlier.options import present_names
from isthmus.frozen import is_shapes_only
from isthmus.hub.address import address_of
from isthmus.model import AnyToAny
from isthmus.training.stage import Stage

log = logging.getLogger(__name__)

KEY = "isthmus_settings"
"""Where a checkpoint holds them."""

REFUSED = {"trains", "data", "optimizer", "parameter groups", "objective", "lora", "lora.r", "lora.lora_alpha"}
REFUSED |= {"lora.target_modules", "lora.method"}

GONE = {"objective.prepares", "objective.makes"}
"""What earlier versions stored, and which follows from the rest."""

EXPERT = "expert "
"""How the name of a frozen expert begins: by its role, and refused if its weights are others."""

_OWN = {"params", "lr", "initial_lr", "name"}


def describe(stage: Stage, model: AnyToAny, trainer: pl.Trainer, data: str) -> dict[str, Any]:
    """What decides over a stage's steps, as plain values by name.

    Args:
        stage: the present one.
        model: that learns.
        trainer: with its optimizer.
        data: the schedule's fingerprint.
    """
    described: dict[str, Any] = {
        "trains": list(stage.trains),
        "data": data,
        "micro_batches": stage.micro_batches,
        "warmup_ratio": stage.warmup_ratio,
        "lr_scheduler_type": stage.lr_scheduler_type,
        "ema": stage.ema,
        "trainer.precision": str(trainer.precision),
        "trainer.gradient_clip_val": trainer.gradient_clip_val,
        "processes": trainer.world_size,
        "objective": None if stage.objective is None else type(stage.objective).__name__,
    }
    described |= {f"losses.{name}": value for name, value in asdict(stage.losses).items()}
    if stage.objective is not None:
        plain = (bool, int, float, str)
        own = {name: value for name, value in vars(stage.objective).items() if isinstance(value, plain)}
        described |= {f"objective.{name}": value for name, value in own.items() if not name.startswith("_")}
    lora = getattr(model.backbone.language_model, "lora", None)
    described |= {"lora": None} if lora is None else {f"lora.{name}": value for name, value in asdict(lora).items()}
    for optimizer in trainer.optimizers:
        described |= _described(optimizer)
    for role, expert in ({} if is_shapes_only() else model.experts()).items():
        path = Path(expert.checkpoint)
        described[EXPERT + role] = f"{_fingerprint(path)} ({address_of(path) or path.name})"
    plain_values: dict[str, Any] = json.loads(json.dumps(described, default=str))
    return plain_values


@cache
def _fingerprint(checkpoint: Path) -> str:
    return fingerprint(checkpoint)[:12]  # within a process weights stay as they are


def _described(optimizer: Optimizer) -> dict[str, Any]:
    groups = optimizer.param_groups
    names = [str(group.get("name", place)) for place, group in enumerate(groups)]
    found: dict[str, Any] = {
        "optimizer": type(optimizer).__name__,
        "parameter groups": [
            f"{name} of {len(group['params'])} tensors" for name, group in zip(names, groups, strict=True)
        ],
    }
    for name, group in zip(names, groups, strict=True):
        of = f" of {name}" if len(groups) > 1 else ""
        found[f"learning rate{of}"] = float(group.get("initial_lr", group["lr"]))
        found |= {f"optimizer's {key}{of}": value for key, value in group.items() if key not in _OWN}
    return found


def _present(stored: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says, under the names that options have now."""
    names = present_names("isthmus.training.Stage")
    names |= {f"lora.{old}": f"lora.{new}" for old, new in present_names("isthmus.backbones.LoraSettings").items()}
    objective = present_names(f"isthmus.training.{stored.get('objective')}")
    names |= {f"objective.{old}": f"objective.{new}" for old, new in objective.items()}
    return {names.get(name, name): value for name, value in stored.items()}


def _differs(name: str, stored: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    if name.startswith(EXPERT):  # an earlier version says nothing of experts, and a moved one is the same
        both = [str(found[name]).split()[0] for found in (stored, present) if name in found]
        return len(set(both)) > 1
    return bool(stored.get(name) != present.get(name))


class Resumption:
    """One run's going on from a checkpoint."""

    def __init__(self) -> None:
        self._stored: dict[str, Any] | None = None
        self._present: dict[str, Any] = {}
        self._groups: list[dict[str, Any]] = []
        self._changed: list[str] = []

    def read(self, checkpoint: Mapping[str, Any], path: Any, stage: str) -> None:
        """Takes what the checkpoint says, and tells which it is; one of an earlier version says nothing."""
        stored = checkpoint.get(KEY)
        self._stored = None if stored is None else _present(stored)
        log.info("going on from %s: stage '%s', after step %d", path, stage, checkpoint["global_step"])

    def configured(self, trainer: pl.Trainer, present: dict[str, Any]) -> None:
        """Takes what this run is configured to do, before the optimizer's stored state replaces it."""
        self._present = present
        self._groups = [dict(group, params=None) for each in trainer.optimizers for group in each.param_groups]

    def compare(self) -> None:
        """Tells each difference.

        Raises:
            ValueError: one of them can't be taken.
        """
        stored, present = self._stored, self._present
        if stored is None or not present:
            return
        names = [name for name in stored | present if name not in GONE and _differs(name, stored, present)]
        said = {name: f"{name}: the checkpoint has {stored.get(name)}, this run {present.get(name)}" for name in names}
        refused = [said[name] for name in names if name in REFUSED or name.startswith(EXPERT)]
        if refused:
            raise ValueError(
                "checkpoint: it can't go on under another configuration. "
                + "; ".join(refused)
                + ". Fix: configure what the checkpoint has, or begin a new run from a stage's weights with "
                "training.init_from."
            )
        for name in names:
            log.info("%s; the new value is taken", said[name])
        self._changed, self._stored = names, None

    def apply(self, trainer: pl.Trainer) -> None:
        """Puts the configured values in force where the optimizer's restored state has others."""
        if not self._changed:
            return
        groups = [group for each in trainer.optimizers for group in each.param_groups]
        for group, own in zip(groups, self._groups, strict=True):
            group.update({key: value for key, value in own.items() if key != "params"})
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            assert isinstance(scheduler, LambdaLR), "a stage's schedule scales its learning rate"
            scheduler.base_lrs = [group["initial_lr"] for group in scheduler.optimizer.param_groups]
            rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            scheduler._last_lr = [base * share(scheduler.last_epoch) for base, share in rates]
            for group, rate in zip(scheduler.optimizer.param_groups, scheduler._last_lr, strict=True):
                group["lr"] = rate
        self._changed = []
