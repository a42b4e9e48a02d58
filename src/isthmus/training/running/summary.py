"""What of a model trains and what is frozen, by part: parameters and bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelSummary
from torch import Tensor, nn

from isthmus.model import AnyToAny
from isthmus.training.module import training_module
from isthmus.training.running.callbacks import callbacks_of
from isthmus.training.stage import Stage
from isthmus.training.stage_switch import StageSwitch
from isthmus.training.trainable import select_parts

log = logging.getLogger(__name__)


class PartsSummary(ModelSummary):
    """A table when a run begins, and a line where a stage brings further frozen experts into memory.

    Lightning's own summary counts modules, of which frozen experts have none until their first use.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the table."""
        self._told: set[str] = set()
        for switch in callbacks_of(trainer, StageSwitch) if trainer.is_global_zero else ():
            stages = {name: switch.stages[name] for name in switch.names}
            log.info("%s", table(training_module(pl_module).model, stages))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a stage's first step all that it needs is loaded."""
        if batch_idx == 0 and trainer.is_global_zero:
            if new := [each for each in frozen(training_module(pl_module).model) if each not in self._told]:
                log.info("frozen, in memory: %s", ", ".join(new))
            self._told.update(new)


def table(model: AnyToAny, stages: Mapping[str, Stage]) -> str:
    """The parts that can be trained, and the LLM. Other experts load when a stage first needs them.

    Args:
        model: built.
        stages: that are run, by name, in their order.
    """
    trained = {name: select_parts(model, stage.trains, name) for name, stage in stages.items()}
    rows = [("part", "parameters", "MB", "trains in")]
    for name, parts in _families(model).items():
        where = [stage for stage, chosen in trained.items() if any(part in chosen for part in parts)]
        own = [parameter for part in parts.values() for parameter in part.values()]
        rows.append((f"{name} ({len(parts)})" if name not in parts else name, *_sizes(own), ", ".join(where) or "none"))
    language_model = model.backbone.language_model
    rows.append((type(language_model).__name__, *_sizes(_fixed(model, language_model)), "none: frozen"))
    first, second, third = (max(len(row[place]) for row in rows) for place in range(3))
    lines = [f"{part:<{first}}  {count:>{second}}  {size:>{third}}  {where}" for part, count, size, where in rows]
    return "\n".join(lines)


def frozen(model: AnyToAny) -> list[str]:
    """The experts that are loaded, each with its parameters and bytes."""
    found = []
    for expert in {id(each): each for each in model.experts().values()}.values():
        if own := _fixed(model, expert):
            count, size = _sizes(own)
            found.append(f"{type(expert).__name__} {count} ({size} MB)")
    return found


def _fixed(model: AnyToAny, expert: nn.Module) -> list[nn.Parameter]:
    owned = {id(parameter) for _, parameter in model.named_owned()}
    return [parameter for parameter in expert.parameters() if id(parameter) not in owned]


def _families(model: AnyToAny) -> dict[str, dict[str, dict[str, Any]]]:
    """Parts by what stands before the dot in their names: ``input_projectors.image`` is one of ``input_projectors``."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for part, parameters in model.parts().items():
        found.setdefault(part.partition(".")[0], {})[part] = parameters
    return found


def _sizes(tensors: Iterable[Tensor]) -> tuple[str, str]:
    own = {id(tensor): tensor for tensor in tensors}.values()  # what is shared counts once
    size = sum(tensor.numel() * tensor.element_size() for tensor in own)
    return f"{sum(tensor.numel() for tensor in own):,}", f"{size / 1e6:,.1f}"
