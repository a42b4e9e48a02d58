"""Processes that compute more slowly than the others, told by rank and host."""

from __future__ import annotations

import logging
import socket
from statistics import median_low
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from torch import Tensor

from isthmus.data.batching.loader import ConversationLoader
from isthmus.training.module import training_module
from isthmus.training.running.callbacks import callbacks_of
from isthmus.training.stage_switch import StageSwitch
from isthmus.types import Batch

log = logging.getLogger(__name__)

NAME = "train/slowest_process"
Mark = float | torch.cuda.Event


class SlowRanks(pl.Callback):
    """Warns once a stage of each process whose forward pass takes far longer than the others'. Every run has one.

    A step takes as long in all processes, since each waits for the slowest. So a process measures its own work, from
    the beginning of a step to where it first waits for others, or to the end of its forward pass, and how long it
    waits for its data. On a GPU events on the device measure the work. Means since the last logging are exchanged over
    gloo where the Trainer logs, and read at the next logging: nobody waits for them, nor for a device. Strategies that
    shard the LLM's layers wait for others within the forward pass, so that their processes look alike.

    Args:
        times: so many times the median of all processes is slow.

    Raises:
        ValueError: ``times`` isn't above 1.
    """

    def __init__(self, times: float = 1.5) -> None:
        if times <= 1:
            raise ValueError(f"SlowRanks.times: found {times:g}; expected more than 1. Fix: raise it, such as to 1.5.")
        self.times = times
        self._clock = perf_counter
        self._begun: Mark | None = None
        self._worked: list[tuple[Mark, Mark]] = []
        self._waited = 0.0
        self._told: set[tuple[str, int]] = set()
        self._hosts: list[str] = []
        self._asked: tuple[Any, list[Tensor]] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """The step's work begins. Nothing is measured where no others are, or where the Trainer never logs."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
        if _group(trainer) is None or not every:
            return
        training_module(pl_module).before_waiting = lambda: self._stop(pl_module.device)
        self._begun = self._mark(pl_module.device)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """The forward pass is over."""
        self._stop(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Exchanges, and judges what was exchanged before, where the Trainer logs."""
        group = _group(trainer)
        if not trainer._logger_connector.should_update_logs or group is None:  # alike in all processes
            return
        if not self._hosts:
            self._hosts = [""] * trainer.world_size
            distributed.all_gather_object(self._hosts, socket.gethostname(), group=group)
        if self._asked is not None:
            work, found = self._asked
            work.wait()
            self._judge(trainer, training_module(pl_module).name, [own.tolist() for own in found])
        own = torch.tensor(self._means(trainer), dtype=torch.float64)
        all_of_them = [torch.zeros_like(own) for _ in range(trainer.world_size)]
        self._asked = (distributed.all_gather(all_of_them, own, group=group, async_op=True), all_of_them)

    def _mark(self, device: torch.device) -> Mark:
        if device.type != "cuda":
            return self._clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _stop(self, device: torch.device) -> None:
        """The first of a step's ends counts."""
        if self._begun is not None:
            self._worked.append((self._begun, self._mark(device)))
            self._begun = None

    def _means(self, trainer: pl.Trainer) -> list[float]:
        """Seconds of work and of waiting for data in a step, since the last time."""
        seconds = [found for pair in self._worked if (found := _seconds(*pair)) is not None]
        loader = trainer.train_dataloader
        waited = loader.waited if isinstance(loader, ConversationLoader) else 0.0
        since = waited - self._waited if waited >= self._waited else waited  # a stage has a loader of its own
        steps, self._worked, self._waited = max(len(self._worked), 1), [], waited
        return [sum(seconds) / max(len(seconds), 1), since / steps]

    def _judge(self, trainer: pl.Trainer, stage: str, means: list[list[float]]) -> None:
        """Tells of each process that is slow, as the first process."""
        if not trainer.is_global_zero:
            return
        usual, waiting = (median_low(own[place] for own in means) for place in (0, 1))
        for logger in trainer.loggers if usual else ():
            step = trainer.fit_loop.epoch_loop._batches_that_stepped
            logger.log_metrics({NAME: max(own[0] for own in means) / usual}, step=step)
        for rank, (work, waited) in enumerate(means):
            if work > self.times * usual > 0 and (stage, rank) not in self._told:
                self._told.add((stage, rank))
                log.warning(
                    "stage '%s': rank %d on %s computes %.1f times as long as the median: %.3g s a step against "
                    "%.3g s; it waits %.3g s for data, the median %.3g s. All others wait for it in every step. "
                    "Fix: look at that machine's load, clocks and temperature, or leave it out.",
                    stage, rank, self._hosts[rank], work / usual, work, usual, waited, waiting,
                )  # fmt: skip


def _group(trainer: pl.Trainer) -> Any:
    """The processes' own group on the CPU; None where there is one process."""
    return next((each.breaking_off.signals.group for each in callbacks_of(trainer, StageSwitch)), None)


def _seconds(begin: Mark, end: Mark) -> float | None:
    """Between two marks; None where the device hasn't come to the second one yet."""
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return begin.elapsed_time(end) / 1000 if end.query() else None
    assert not isinstance(begin, torch.cuda.Event) and not isinstance(end, torch.cuda.Event)
    return end - begin
