"""One thread owns the models; requests join and leave between tokens, and tokens go on between denoising steps."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from isthmus.backbones.base import Answer
from isthmus.backbones.decoding.continuous import OpenAnswer
from isthmus.backbones.decoding.kept import Kept
from isthmus.backbones.decoding.slots import Slots
from isthmus.generators.steps import Estimates, watched
from isthmus.model import AnyToAny, Reply
from isthmus.model.answering import reply_of
from isthmus.serving.engine.jobs import Busy, Event, Job
from isthmus.serving.engine.partial_images import PartialImages
from isthmus.serving.engine.waiting import FairQueue, has_its_share
from isthmus.types import Media, Modality
from isthmus.worded import is_worded

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Decoded:
    """A decoded answer whose media are being made.

    Attributes:
        job: that it answers.
        answer: decoded.
        left: modalities that are still to be made.
        media: by the piece of the answer.
        since: when it began to wait for them.
    """

    job: Job
    answer: Answer
    left: list[Modality]
    media: dict[int, Media] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)


class Stopped(Exception):
    """Nobody waits for the medium that is being made."""


ENDED = "the engine has ended by a fault"


class Engine:
    """Answers jobs.

    In a round waiting jobs begin as far as slots are free, one of their media is encoded, a bounded number of positions
    of their prompts run, all running answers get their next token, and a medium of an answer that has ended is made.
    Between two of its denoising steps, further rounds of decoding run. An answer's text is the same bit for bit
    whichever others are decoded with it, and whatever is kept of earlier prompts.

    Args:
        model: of jobs that name none; models' weights must not change.
        slots: answers that are decoded at once; also the rows of every pass.
        queue: jobs that may wait beyond these.
        media_batch: answers whose media of one modality are made together, if model, steps and guidance are the same.
        media_wait: seconds that a medium waits for others to be made with it, while answers are decoded.
        kept: bytes of what is kept for later prompts: keys and values of prompts, and projected media.
    """

    def __init__(
        self,
        model: AnyToAny,
        slots: int = 8,
        queue: int = 32,
        media_batch: int = 1,
        media_wait: float = 0.05,
        kept: int = 256 << 20,
    ) -> None:
        self.model = model.eval()
        self.slots, self.queue, self.media_batch, self.media_wait = slots, queue, media_batch, media_wait
        self._change = threading.Condition()
        self._waiting = FairQueue()
        self._arriving: deque[tuple[Job, Generator[None, None, OpenAnswer]]] = deque()
        self._running: list[tuple[Job, OpenAnswer]] = []
        self._decoded: list[Decoded] = []
        self._kept = Kept(kept)
        self._slots: dict[AnyToAny, Slots] = {}
        self._held: Counter[str] = Counter()
        self._typical = 1.0
        self._stopping = self._has_ended = False
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
        return {
            "waiting": len(self._waiting),
            "decoding": len(self._arriving) + len(self._running),
            "media": len(self._decoded),
        }

    def reserve(self, client: str) -> None:
        """Takes a place for a client's job that will be submitted, or given up by :meth:`release`.

        Whoever has their share gets no more: :func:`~isthmus.serving.engine.waiting.has_its_share`.

        Raises:
            Busy: there is none for this client, or the engine isn't ready.
        """
        with self._change:
            taken = self._held.total()
            if has_its_share(self._held[client], self.slots + self.queue - taken) or not self.is_ready:
                raise Busy(min(60, max(1, round(self._typical * taken / self.slots))))
            self._held[client] += 1

    def release(self, client: str) -> None:
        """Gives a place back that was reserved for the client."""
        with self._change:
            self._held[client] -= 1
            self._held += Counter()  # forgets clients without any
            self._change.notify()

    def submit(self, job: Job) -> None:
        """Queues a job whose place is reserved; the place is free again when the job has ended."""
        with self._change:
            if not self._has_ended:
                self._waiting.push(job)
                self._change.notify()
                return
        self._end(job, RuntimeError(ENDED))

    def _work(self) -> None:
        try:
            while self._has_work():
                self._decode()
                self._make_media()
        except Exception:
            log.exception("%s; nothing is answered until the server is started anew", ENDED)
        finally:
            self._end_all()

    def _end_all(self) -> None:
        """Tells all who wait that nothing is answered any more; nobody waits where the thread has ended properly."""
        with self._change:
            self._stopping = self._has_ended = True
            jobs = [job for job, _ in [*self._arriving, *self._running]] + [own.job for own in self._decoded]
            jobs += [self._waiting.pop() for _ in range(len(self._waiting))]
        for job in jobs:
            self._end(job, RuntimeError(ENDED))

    def _has_work(self) -> bool:
        """Sleeps while nothing is to be done; False once the engine has stopped and all is done."""
        with self._change:
            while not (self._waiting or self._arriving or self._running or self._decoded):
                if self._stopping and not self._held.total():
                    return False  # nobody who reserved a place may still submit a job
                self._change.wait()
            return True

    def _decode(self) -> None:
        """One round: jobs begin, and all running answers get on."""
        self._admit()
        for job, _ in self._running:
            if job.is_over:
                self._drop(job)
        self._running = [each for each in self._running if not each[0].has_ended]
        for model, slots in self._slots.items():
            running = [each for each in self._running if self._model(each[0]) is model]
            if running:
                self._advance(model, running, slots)
            else:
                slots.keep_only([])

    def _admit(self) -> None:
        """Takes waiting jobs into free slots, and encodes one of their media."""
        with self._change:
            gone = self._waiting.take_over()
            chosen: list[Job] = []
            while len(self._waiting) and len(self._running) + len(self._arriving) + len(chosen) < self.slots:
                chosen.append(self._waiting.pop())
        for job in [*gone, *(job for job, _ in self._arriving if job.is_over)]:
            self._drop(job)
        for job in chosen:
            job.stage = "decoding"
            with self._failing([job]):
                model = self._model(job)
                self._slots.setdefault(model, Slots(self.slots, self._kept))
                beginning = model.begin(job.batch, job.sampling, job.required, job.allowed, self._kept)
                self._arriving.append((job, beginning))
        self._arriving = deque(each for each in self._arriving if not each[0].has_ended)
        for _ in range(len(self._arriving)):
            job, beginning = self._arriving.popleft()
            with self._failing([job]):
                try:
                    next(beginning)
                except StopIteration as ended:
                    self._running.append((job, ended.value))
                else:
                    self._arriving.append((job, beginning))
                    return

    def _advance(self, model: AnyToAny, running: Sequence[tuple[Job, OpenAnswer]], slots: Slots) -> None:
        with self._failing([job for job, _ in running]):
            model.advance([answer for _, answer in running], slots)
            for job, answer in running:
                if job.streams and answer.last is not None:
                    job.say(answer.writer.words)
                if answer.is_finished:
                    self._running.remove((job, answer))
                    decoded = answer.writer.answer
                    self._decoded.append(Decoded(job, decoded, model.to_draw(decoded)))

    def _settle(self) -> None:
        """Ends the answers that hold no further medium, or for which nobody waits."""
        for own in self._decoded:
            if own.job.is_over:
                self._drop(own.job)
            elif not own.left:
                with self._failing([own.job]):
                    left_out = (own.job.batch.left_out or [0])[0]
                    self._end(own.job, reply_of(own.answer, own.media, left_out))
        self._decoded = [own for own in self._decoded if not own.job.has_ended]

    def _make_media(self) -> None:
        """Of one modality, for the answer that has waited longest, and for others with which it is made together."""
        self._settle()
        if chosen := self._chosen():
            jobs, first, modality = [own.job for own in chosen], chosen[0].job, chosen[0].left[0]

            partial_images = PartialImages([(own.job, own.answer) for own in chosen], modality)

            def between(done: int, total: int, estimates: Estimates) -> None:
                for job in jobs:
                    if job.on_step is not None:
                        job.on_step(modality, done, total)
                partial_images.show(done, total, estimates)
                self._decode()
                self._settle()
                if all(job.is_over for job in jobs):
                    raise Stopped

            for job in jobs:
                job.stage = "media"
            with self._failing(jobs), watched(between):
                made = self._model(first).draw(
                    modality,
                    [own.answer for own in chosen],
                    [job.sampling.seed for job in jobs],
                    first.num_inference_steps,
                    first.guidance_scale,
                )
                for own, media in zip(chosen, made, strict=True):
                    own.media |= media
                    own.left.remove(modality)
            self._settle()

    def _chosen(self) -> list[Decoded]:
        """Those whose next medium is made now: of one kind, as many as are made together."""
        kinds: dict[object, list[Decoded]] = {}
        for own in self._decoded:
            job = own.job
            kind = self._model(job), own.left[0], job.num_inference_steps, job.guidance_scale
            kinds.setdefault(kind, []).append(own)
        is_idle = not self._running and not len(self._waiting)
        for alike in kinds.values():
            waited = time.monotonic() - alike[0].since
            if len(alike) >= self.media_batch or waited >= self.media_wait or is_idle:
                return alike[: self.media_batch]
        return []

    def _model(self, job: Job) -> AnyToAny:
        return self.model if job.model is None else job.model

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
        self.release(job.client)

    @contextmanager
    def _failing(self, jobs: Sequence[Job]) -> Iterator[None]:
        """An error in the block ends these jobs, and not the thread on which all others depend."""
        try:
            yield
        except Stopped:
            for job in jobs:
                self._drop(job)
        except Exception as error:
            if not is_worded(error):
                log.exception("%d requests failed", len(jobs))
            self._running = [each for each in self._running if each[0] not in jobs]
            self._decoded = [own for own in self._decoded if own.job not in jobs]
            for job in jobs:
                self._end(job, error)
