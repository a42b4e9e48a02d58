"""The engine: one thread owns the model, and requests join and leave between tokens."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from isthmus.backbones.base import Sampling
from isthmus.backbones.decoding.continuous import OpenAnswer
from isthmus.model import AnyToAny, Reply
from isthmus.types import Batch, Modality
from isthmus.worded import is_worded

log = logging.getLogger(__name__)

Event = str | Reply | BaseException
"""What a job emits: pieces of text as they are decoded; at its end its reply, or an error."""


class Busy(Exception):
    """The queue is full, or the engine is stopping.

    Args:
        retry_after: seconds after which a place may be free.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy; retry after {retry_after} s")
        self.retry_after = retry_after


@dataclass(eq=False)
class Job:
    """A request in the engine.

    Attributes:
        batch: its prompt.
        sampling: of the answer; its seed is that of the media too.
        emit: takes events, in the engine's thread: it must return at once.
        seconds: in which it must be answered.
        required: media that the answer must hold.
        allowed: media that it may hold; all if None.
        num_inference_steps: of generators.
        guidance_scale: of generators.
        streams: whether the text is wanted as it is decoded.
        is_cancelled: set by :meth:`cancel`.
        has_ended: whether the last event was emitted.
        stage: what is done for it: ``waiting``, ``decoding`` or ``media``.
    """

    batch: Batch
    sampling: Sampling
    emit: Callable[[Event], None]
    seconds: float
    required: Sequence[Modality] = ()
    allowed: Sequence[Modality] | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    streams: bool = True
    is_cancelled: bool = False
    has_ended: bool = False
    stage: str = "waiting"
    begun: float = field(default_factory=time.monotonic)
    _sent: str = ""

    def cancel(self) -> None:
        """Nobody waits for the answer any more: it ends before its next token, or before its media."""
        self.is_cancelled = True

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() - self.begun > self.seconds

    @property
    def kind(self) -> tuple[int | None, float | None]:
        """Media of jobs of one kind can be made together."""
        return self.num_inference_steps, self.guidance_scale

    def say(self, words: str) -> None:
        """Emits what the text so far has more than before."""
        if words != self._sent and words.startswith(self._sent):
            self.emit(words[len(self._sent) :])
            self._sent = words


class Engine:
    """Answers jobs.

    In a round one waiting job begins if a slot is free, all running answers get their next token, and the media of
    answers that have ended are made. An answer's text is the same bit for bit whichever others are decoded with it.

    Args:
        model: its weights must not change.
        slots: answers that are decoded at once; also the rows of every pass.
        queue: jobs that may wait beyond these.
        media_batch: answers whose media are made together.
    """

    def __init__(self, model: AnyToAny, slots: int = 8, queue: int = 32, media_batch: int = 1) -> None:
        self.model = model.eval()
        self.slots, self.queue, self.media_batch = slots, queue, media_batch
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: list[tuple[Job, OpenAnswer]] = []
        self._decoded: list[tuple[Job, OpenAnswer]] = []
        self._places = slots + queue
        self._typical = 1.0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="isthmus-engine", daemon=True)

    def start(self) -> None:
        """Starts the thread; once."""
        self._thread.start()

    def stop(self) -> None:
        """Answers all jobs that have a place, and ends the thread. New ones are refused from now on."""
        with self._change:
            self._stopping = True
            self._change.notify()
        self._thread.join()

    @property
    def is_ready(self) -> bool:
        """Whether it takes jobs."""
        return self._thread.is_alive() and not self._stopping

    @property
    def load(self) -> dict[str, int]:
        """How many jobs wait, are decoded, and wait for their media."""
        return {"waiting": len(self._waiting), "decoding": len(self._running), "media": len(self._decoded)}

    def reserve(self) -> None:
        """Takes a place for a job that will be submitted, or given up by :meth:`release`.

        Raises:
            Busy: there is none, or the engine isn't ready.
        """
        with self._change:
            if self._places == 0 or not self.is_ready:
                taken = self.slots + self.queue - self._places
                raise Busy(min(60, max(1, round(self._typical * taken / self.slots))))
            self._places -= 1

    def release(self) -> None:
        """Gives a reserved place back."""
        with self._change:
            self._places += 1
            self._change.notify()

    def submit(self, job: Job) -> None:
        """Queues a job whose place is reserved; the place is free again when the job has ended."""
        with self._change:
            self._waiting.append(job)
            self._change.notify()

    def _work(self) -> None:
        while self._has_work():
            self._admit()
            self._running = self._kept(self._running)
            if self._running:
                self._advance()
            self._decoded = self._kept(self._decoded)
            if self._decoded:
                self._make_media()

    def _has_work(self) -> bool:
        """Sleeps while nothing is to be done; False once the engine has stopped and all is done."""
        with self._change:
            while not (self._waiting or self._running or self._decoded):
                if self._stopping and self._places == self.slots + self.queue:
                    return False  # nobody who reserved a place may still submit a job
                self._change.wait()
            return True

    def _admit(self) -> None:
        """Begins one waiting job, if a slot is free."""
        with self._change:
            gone = [job for job in self._waiting if job.is_cancelled or job.is_late]
            self._waiting = deque(job for job in self._waiting if job not in gone)
            chosen = self._waiting.popleft() if self._waiting and len(self._running) < self.slots else None
        for job in gone:
            self._drop(job)
        if chosen is not None:
            chosen.stage = "decoding"
            with self._failing([chosen]):
                answer = self.model.begin(chosen.batch, chosen.sampling, chosen.required, chosen.allowed)
                self._running.append((chosen, answer))

    def _advance(self) -> None:
        with self._failing([job for job, _ in self._running]):
            self.model.advance([answer for _, answer in self._running], self.slots)
            for job, answer in self._running:
                if job.streams:
                    job.say(answer.writer.words)
            self._decoded += [each for each in self._running if each[1].is_finished]
            self._running = [each for each in self._running if not each[1].is_finished]

    def _make_media(self) -> None:
        """Of the oldest answer that waits for them, and of as many of its kind as are made together."""
        kind = self._decoded[0][0].kind
        chosen = [each for each in self._decoded if each[0].kind == kind][: self.media_batch]
        self._decoded = [each for each in self._decoded if each not in chosen]
        jobs = [job for job, _ in chosen]
        for job in jobs:
            job.stage = "media"
        with self._failing(jobs):
            replies = self.model.complete(
                [answer.writer.answer for _, answer in chosen],
                [job.sampling.seed for job in jobs],
                [(job.batch.left_out or [0])[0] for job in jobs],
                *kind,
            )
            for job, reply in zip(jobs, replies, strict=True):
                self._end(job, reply)

    def _kept(self, pairs: list[tuple[Job, OpenAnswer]]) -> list[tuple[Job, OpenAnswer]]:
        """Those for whose answers somebody still waits."""
        for job, _ in pairs:
            if job.is_cancelled or job.is_late:
                self._drop(job)
        return [each for each in pairs if not each[0].is_cancelled]

    def _drop(self, job: Job) -> None:
        found = (
            f"seconds: found no answer after {job.seconds:g} s; expected one. Fix: ask for less, or try again later."
        )
        job.cancel()
        self._end(job, TimeoutError(found))

    def _end(self, job: Job, event: Event) -> None:
        if job.has_ended:
            return
        job.has_ended = True
        job.emit(event)
        if isinstance(event, Reply):
            self._typical += 0.2 * (time.monotonic() - job.begun - self._typical)
        self.release()

    @contextmanager
    def _failing(self, jobs: Sequence[Job]) -> Iterator[None]:
        """An error in the block ends these jobs, and not the thread on which all others depend."""
        try:
            yield
        except Exception as error:
            if not is_worded(error):
                log.exception("%d requests failed", len(jobs))
            self._running = [each for each in self._running if each[0] not in jobs]
            self._decoded = [each for each in self._decoded if each[0] not in jobs]
            for job in jobs:
                self._end(job, error)
