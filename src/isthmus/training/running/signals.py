"""Signals that end a run after the batch in progress, in all of its processes at once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from pytorch_lightning.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]  # not in its __all__
from pytorch_lightning.utilities.exceptions import SIGTERMException

from isthmus.training.running.ending import learnt_batches

log = logging.getLogger(__name__)

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, the end of a machine's time, and SLURM's warning before the end of a job's.

A later one tells more of why the run ends, and counts where several came: a launcher passes on Ctrl-C as SIGTERM, and
SLURM sends SIGTERM when the time is over of which SIGUSR1 has warned.
"""
NAMES = {signal.SIGINT: "Ctrl-C"}
"""What a signal is called where it isn't called by its own name."""


class Signals:
    """Lets a run finish its batch after Ctrl-C, SIGTERM or SIGUSR1, whichever of its processes had the signal.

    Lightning broadcasts the first process's flag in every step and waits for the device to read it. It also broadcasts
    within the signal's handler, where other processes take part in another operation. Here a handler only keeps the
    signal's number. In each step the processes begin to exchange the largest number over gloo, on the CPU, and read it
    when the next step begins. So all of them stop before the same batch, and no device is waited for.

    In a run of one process a second Ctrl-C ends it at once. Other signals may come twice without effect: launchers pass
    on what their process group had, too.

    Attributes:
        number: the signal that ends the run, as all processes know it; None while there is none.
        group: the processes' own, for exchange on the CPU; None where there is one process.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.group: Any = None
        self._own = 0  # the place in HEARD of what came to this process, counted from 1; 0: none
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        self._trainer: pl.Trainer | None = None
        self._asked: tuple[Any, torch.Tensor] | None = None

    @property
    def name(self) -> str | None:
        """How the signal that ends the run is called."""
        return None if self.number is None else NAMES.get(signal.Signals(self.number), signal.Signals(self.number).name)

    @property
    def is_ctrl_c(self) -> bool:
        """Whether it is the user's own."""
        return self.number == signal.SIGINT

    def listen(self, trainer: pl.Trainer) -> None:
        """Takes the signals over. Every process has to call it."""
        self.number, self._own, self._asked, self.group = None, 0, None, None
        self._trainer, self._process = trainer, os.getpid()
        if trainer.world_size > 1:
            if distributed.get_backend() == "fake":  # a rehearsal's processes are one
                return
            self.group = distributed.new_group(backend="gloo")
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = self._ask  # type: ignore[method-assign]
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heard) for number in HEARD}

    def leave(self) -> None:
        """Gives them back."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before, self._trainer, self._asked = {}, None, None

    def requeue(self) -> None:
        """Puts the job back into SLURM's queue, where SIGUSR1 has warned of its end."""
        trainer = self._trainer
        if trainer is None or self.number != signal.SIGUSR1 or not trainer.is_global_zero:
            return
        environment = trainer._accelerator_connector.cluster_environment
        if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
            return
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        job = os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        try:
            subprocess.run(["scontrol", "requeue", job], check=True)
            log.info("SIGUSR1: job %s is in SLURM's queue again", job)
        except (OSError, subprocess.CalledProcessError) as error:
            log.warning("SIGUSR1: scontrol requeue %s failed (%s). Fix: submit the job again.", job, error)

    def _heard(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process or self._trainer is None:
            return  # workers inherit this, and go on until they are no longer needed
        is_alone = self.group is None
        first, self._own = not self._own, max(self._own, HEARD.index(signal.Signals(number)) + 1)
        if is_alone:
            self.number = HEARD[self._own - 1]
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, self._before.pop(signal.SIGINT, signal.default_int_handler))
            else:  # so that its loops end, a validation in progress too
                self._trainer._signal_connector.received_sigterm = True
        if first:
            name = NAMES.get(signal.Signals(number), signal.Signals(number).name)
            again = "; once more ends it at once" if is_alone and number == signal.SIGINT else ""
            log.info("%s: the run ends after this batch%s", name, again)

    def _ask(self) -> None:
        """Before each batch, in the place of Lightning's broadcast.

        Raises:
            SIGTERMException: in every process, where one of them had a signal before the batch that is over.
        """
        assert self._trainer is not None
        asked, self._asked = self._asked, None
        if asked is not None:
            work, found = asked
            work.wait()
            if int(found) and learnt_batches(self._trainer):
                self.number = HEARD[int(found) - 1]
                raise SIGTERMException
        own = torch.tensor(self._own)
        self._asked = (distributed.all_reduce(own, distributed.ReduceOp.MAX, group=self.group, async_op=True), own)
