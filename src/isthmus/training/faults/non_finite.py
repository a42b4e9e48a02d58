"""Steps whose loss or gradient isn't finite: skipped by all processes together, counted, and told by their data."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from isthmus.training.module import TrainingModule, training_module
from isthmus.training.running.callbacks import callbacks_of, is_trial
from isthmus.training.stage_switch import StageSwitch
from isthmus.types import Batch

log = logging.getLogger(__name__)

NAME = "train/skipped_steps"
RECORD = "skipped_steps.jsonl"
"""In the run's folder: a line for each skipped step, with all of its conversations."""
SHOWN = 8
"""So many conversations of a process are named in a message; the record names all."""
MOST = 50
"""So many steps at most wait for their verdict to be read, however seldom the Trainer logs."""


@dataclass(frozen=True)
class Share:
    """What one process knows of a step.

    Attributes:
        rank: the process's.
        host: the machine's name.
        loss: the process's own; None where it isn't a number that JSON holds.
        is_finite: whether that loss is.
        conversations: the ids of those that it learnt from.
    """

    rank: int
    host: str
    loss: float | None
    is_finite: bool
    conversations: list[str]


@dataclass
class Pending:
    """A step whose verdict the device still holds."""

    step: int
    is_bad: Tensor
    loss: Tensor
    conversations: list[str]


class SkipNonFinite(pl.Callback):
    """Skips the optimizer's update in steps whose loss or gradient isn't finite. Every run has one.

    Neither weights nor the optimizer's state change in such a step. Processes decide alike without asking each other:
    a loss that isn't finite makes the gradient of its process so (:mod:`isthmus.training.touching`), and the strategy's
    own reduction carries that to all of them.

    A fused optimizer skips on the device, and what it skipped is read where the Trainer logs, and every :data:`MOST`
    steps at least, so that no step waits for the device. For others one number is read in each step. Under a loss
    scaler, a gradient that overflows while the loss is finite is the scaler's own search for a scale, until that
    scale is 1: the scaler skips it, and it isn't counted. DeepSpeed holds gradients by itself, and its steps aren't
    looked at.

    Args:
        in_a_row: so many skipped steps one after another end the run.

    Attributes:
        skipped: steps of the run so far.

    Raises:
        ValueError: ``in_a_row`` is below 1.
    """

    def __init__(self, in_a_row: int = 10) -> None:
        if in_a_row < 1:
            raise ValueError(f"SkipNonFinite.in_a_row: found {in_a_row}; expected at least 1. Fix: raise it.")
        self.in_a_row = in_a_row
        self.skipped = 0
        self._row = 0
        self._batch: Batch | None = None
        self._loss: Tensor | None = None
        self._pending: list[Pending] = []

    def state_dict(self) -> dict[str, Any]:
        """Counts, so that a run that is started again and again ends as one that goes on."""
        return {"skipped": self.skipped, "row": self._row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.skipped, self._row = int(state_dict["skipped"]), int(state_dict["row"])

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Holds the batch until its step is judged."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Holds the process's own loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Judges the step between its backward pass and its update.

        Raises:
            ValueError: it is one too many.
        """
        if isinstance(trainer.strategy, DeepSpeedStrategy) or self._loss is None or self._batch is None:
            return
        gradients = [own.grad for group in optimizer.param_groups for own in group["params"] if own.grad is not None]
        if not gradients:
            return
        is_bad = is_non_finite(gradients)
        step = Pending(trainer.fit_loop.epoch_loop.batch_idx + 1, is_bad, self._loss, _ids(self._batch))
        self._batch = None
        scaler = _scaler(trainer)
        skips_by_itself = _skips_by_itself(optimizer, gradients)
        if scaler is None and skips_by_itself:
            optimizer.found_inf = is_bad.float()  # type: ignore[attr-defined]  # as a GradScaler says it
            self._pending.append(step)
            return
        if not bool(is_bad):
            self._row = 0
            return
        if scaler is not None and bool(step.loss.isfinite()) and scaler.get_scale() > 1:
            return
        parts = _bad_parts(training_module(pl_module))
        if scaler is not None:
            step.loss = step.loss / scaler.get_scale()  # Lightning scales it before it shows it
        # A scaler looks at a fused optimizer's gradients itself, finds them so, and skips; it has to find some.
        for group in [] if skips_by_itself else optimizer.param_groups:
            for own in group["params"]:
                own.grad = None  # an optimizer changes neither weights nor state where there is no gradient
        self._skip(trainer, training_module(pl_module), step, parts)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Reads what the device has skipped, and logs, where the Trainer logs."""
        # As Lightning's own monitors ask it, alike in all processes.
        logs = trainer._logger_connector.should_update_logs
        if logs or len(self._pending) >= MOST:
            self._read(trainer, pl_module)
        if logs:
            for logger in trainer.loggers if self.skipped else ():
                step = trainer.fit_loop.epoch_loop._batches_that_stepped
                logger.log_metrics({NAME: float(self.skipped)}, step=step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A stage's last steps are told before it is left."""
        self._read(trainer, pl_module)

    def _read(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        for step, is_bad in zip(pending, torch.stack([each.is_bad for each in pending]).tolist(), strict=True):
            if is_bad:
                self._skip(trainer, training_module(pl_module), step, [])
            else:
                self._row = 0

    def _skip(self, trainer: pl.Trainer, module: TrainingModule, step: Pending, parts: Sequence[str]) -> None:
        """Counts, and tells. Every process comes here for the same step, so that they can ask each other."""
        self.skipped += 1
        self._row += 1
        loss, is_finite = float(step.loss), bool(step.loss.isfinite())
        own = Share(
            trainer.global_rank, socket.gethostname(), loss if is_finite else None, is_finite, step.conversations
        )
        shares = [own]
        if trainer.world_size > 1:
            found: list[Any] = [None] * trainer.world_size
            distributed.all_gather_object(found, own)
            shares = found
        said = _told(module.name, step.step, shares, parts)
        if trainer.is_global_zero:
            log.warning("%s; skipped: %d so far, %d in a row", said, self.skipped, self._row)
            _record(trainer, {"stage": module.name, "step": step.step, "parts": list(parts)}, shares)
        if self._row >= self.in_a_row:
            raise ValueError(
                f"{said}: found {self._row} such steps in a row; expected fewer than {self.in_a_row}. Weights and "
                "optimizer are as before the first of them. Fix: look at these conversations, lower the stage's "
                "learning rate, compute in bf16-mixed or 32-true, or raise SkipNonFinite.in_a_row."
            )


def is_non_finite(gradients: Sequence[Tensor]) -> Tensor:
    """() bool, whether the norm of all gradients together is infinite or no number; shares of all processes count."""
    shared = [own for own in gradients if isinstance(own, DTensor)]
    plain = [own for own in gradients if not isinstance(own, DTensor)]
    norms = [nn.utils.get_total_norm(own) for own in (shared, plain) if own]
    whole = [own.full_tensor() if isinstance(own, DTensor) else own for own in norms]
    return ~torch.stack([own.to(whole[0].device).isfinite() for own in whole]).all()


def _skips_by_itself(optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor]) -> bool:
    """Whether an optimizer leaves all as it is where ``found_inf`` says so, as fused ones do; not for shares."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False)) and not any(
        isinstance(own, DTensor) for own in gradients
    )


def _scaler(trainer: pl.Trainer) -> torch.amp.GradScaler | None:
    precision = trainer.precision_plugin
    return precision.scaler if isinstance(precision, MixedPrecision) else None


def _bad_parts(module: TrainingModule) -> list[str]:
    """The parts whose gradients aren't finite."""
    found = {
        part: [own.grad for own in parameters.values() if own.grad is not None]
        for part, parameters in module.model.parts().items()
    }
    return [part for part, gradients in found.items() if gradients and bool(is_non_finite(gradients))]


def _ids(batch: Batch) -> list[str]:
    """The ids of all conversations that a process learns from in a step."""
    parts = [*batch.pieces, *([] if batch.mixed is None else batch.mixed.pieces)]
    return [str(details.get("id", "without an id")) for part in parts for details in part.details]


def _told(stage: str, step: int, shares: Sequence[Share], parts: Sequence[str]) -> str:
    """What happened, and which conversations it happened with: of the processes whose own loss isn't finite, if any."""
    bad = [share for share in shares if not share.is_finite]
    what = "a loss that isn't finite" if bad else "finite losses, and a gradient that isn't"
    where = f" ({', '.join(parts)})" if parts else ""
    by = []
    for share in bad or shares:
        named = share.conversations[:SHOWN]
        more = f" and {len(share.conversations) - SHOWN} more" if len(share.conversations) > SHOWN else ""
        by.append(f"rank {share.rank} on {share.host} with {', '.join(named)}{more}")
    return f"stage '{stage}', step {step}: found {what}{where}: {'; '.join(by)}"


def _record(trainer: pl.Trainer, step: Mapping[str, Any], shares: Sequence[Share]) -> None:
    """Adds a line to the run's record."""
    for switch in callbacks_of(trainer, StageSwitch):
        if not is_trial(trainer):
            line = json.dumps({**step, "processes": [asdict(share) for share in shares]}, ensure_ascii=False)
            with (switch.folder / RECORD).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
