"""A loader of a schedule's batches that can be resumed at the exact batch."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from isthmus.data.batching.collate import Collator
from isthmus.data.batching.fetch import Fetched, OnError, Steps
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.errors import DataError
from isthmus.data.sampling.schedule import Schedule
from isthmus.earlier.options import takes_present_names
from isthmus.types import Batch

_log = logging.getLogger(__name__)

StartMethod = Literal["fork", "spawn", "forkserver"]
"""Python's start methods of processes: a copy of this process, a new one, or a copy of a new one."""

GRACE = 60
"""Seconds that a worker goes on after SIGTERM."""


@takes_present_names
class ConversationLoader:
    """Batches of a schedule, for one process. One pass is the whole stage.

    It isn't a ``DataLoader`` but owns one, because Lightning may rebuild a ``DataLoader`` with its own sampler.
    Lightning calls ``state_dict`` in each checkpoint, and ``load_state_dict`` before ``iter`` when it resumes. It may
    call ``iter`` twice before the first batch, so workers start with the first ``next``.

    Args:
        schedule: gives the conversations of each batch.
        sources: by name.
        collator: makes the batches.
        num_workers: processes that prepare them; 0 prepares them in this one.
        rank: this process's; unless balanced, it takes items rank, rank + world, ... of each global batch.
        world: number of processes.
        on_error: whether a bad sample ends the run or is skipped.
        multiprocessing_context: of workers; Python's default on this system if None.
        pin_memory: whether batches are in pinned memory, from which a GPU copies them asynchronously.
        balanced: whether processes get the same work; the schedule's batches must have an item for each.

    Attributes:
        waited: seconds that the training loop has waited for batches.

    Raises:
        ValueError: a global batch with fewer items than processes.
    """

    def __init__(
        self,
        schedule: Schedule,
        sources: Mapping[str, ConversationSource],
        collator: Collator,
        num_workers: int = 0,
        rank: int = 0,
        world: int = 1,
        on_error: OnError = "raise",
        multiprocessing_context: StartMethod | None = None,
        pin_memory: bool = False,
        balanced: bool = False,
    ) -> None:
        if schedule.batch_size < world:
            raise ValueError(
                f"{schedule.name}: batch_size: found {schedule.batch_size} for {world} processes; expected at least "
                f"one item each (batch_size counts all processes together). Fix: raise it to {world} or more."
            )
        self.schedule = schedule
        self.num_workers = num_workers
        self.multiprocessing_context = multiprocessing_context
        self.pin_memory = pin_memory
        self.rank = rank
        self.skipped: Counter[str] = Counter()
        self.waited = 0.0
        self._examples: dict[str, str] = {}
        self._steps = Steps(schedule, sources, collator, rank, world, on_error, balanced)
        self._begin_at = 0
        self._consumed = 0
        self._is_reported = False

    def __len__(self) -> int:
        return len(self.schedule)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches()

    def _batches(self) -> Iterator[Batch]:
        begin, self._begin_at = self._begin_at, 0
        self._consumed = begin
        # A separate generator: by default the workers' seed is drawn from the global one, so that a resumed run would
        # diverge from an uninterrupted one.
        loader: DataLoader[Fetched] = DataLoader(
            self._steps,
            batch_size=None,
            sampler=range(begin, len(self)),
            num_workers=self.num_workers,
            collate_fn=_unchanged,
            worker_init_fn=_outlive_signals,
            generator=torch.Generator(),
            pin_memory=self.pin_memory,
            multiprocessing_context=self.multiprocessing_context if self.num_workers else None,
        )
        for fetched in self._timed(loader):
            self._count(fetched.skipped)
            if fetched.error is not None:
                self.report()
                raise fetched.error
            # Batches that workers have prefetched aren't counted until they are yielded.
            self._consumed += 1
            if self._consumed == len(self):
                self.report()  # Lightning doesn't call `next` after the last batch
            assert fetched.batch is not None
            yield fetched.batch

    def _timed(self, loader: DataLoader[Fetched]) -> Iterator[Fetched]:
        batches = _received(loader) if self.num_workers else iter(loader)
        began = perf_counter()
        for fetched in batches:
            self.waited += perf_counter() - began
            yield fetched
            began = perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that have been yielded, and their schedule."""
        return {
            "consumed": self._consumed,
            "steps": len(self),
            "schedule": self.schedule.fingerprint,
            "rank": self.rank,
            "skipped": dict(self.skipped),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues after the batches that the checkpoint's run had consumed; a finished stage starts again.

        Raises:
            ValueError: the checkpoint is from the middle of another schedule.
        """
        if state_dict["consumed"] >= state_dict["steps"]:
            return
        if state_dict["schedule"] != self.schedule.fingerprint:
            raise ValueError(
                f"checkpoint: found the data of {state_dict['schedule']}; expected {self.schedule.fingerprint}. "
                "Fix: resume with the sources, mixture, batch size, length and seed that the run was started with, "
                "or start from its weights alone."
            )
        self._begin_at = self._consumed = state_dict["consumed"]
        if state_dict["rank"] == self.rank:  # a checkpoint holds one process's counts
            self.skipped = Counter(state_dict["skipped"])

    def report(self) -> None:
        """Logs once how many samples have been skipped so far and why, with an example of each reason."""
        if self.skipped and not self._is_reported:
            self._is_reported = True
            reasons = "; ".join(
                f"{count} {reason}" + (f" (first: {self._examples[reason]})" if reason in self._examples else "")
                for reason, count in sorted(self.skipped.items())
            )
            _log.warning(
                "%s, rank %d: skipped %d bad samples: %s", self.schedule.name, self.rank, self.skipped.total(), reasons
            )

    def _count(self, skipped: list[DataError]) -> None:
        for error in skipped:
            self.skipped[str(error.fault)] += 1
            self._examples.setdefault(str(error.fault), str(error))
            self._is_reported = False


def _received(loader: DataLoader[Fetched]) -> Iterator[Fetched]:
    """The workers' results; a thread receives and unpacks the next one during the current training step."""
    batches = iter(loader)
    with ThreadPoolExecutor(1, "batches") as thread:
        due = thread.submit(next, batches, None)
        while (fetched := due.result()) is not None:
            due = thread.submit(next, batches, None)
            yield fetched


def _outlive_signals(_: int) -> None:
    """A signal to all of a run's processes leaves the worker time: the run may still wait for its batch.

    The worker leaves the run's process group, which Ctrl-C reaches. SIGTERM, which whoever ends a job may send to each
    of its processes, and a loader to a worker that doesn't end, ends it after :data:`GRACE`.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


def _unchanged(fetched: Any) -> Any:
    return fetched
