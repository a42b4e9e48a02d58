"""Films that were asked for: so many are kept, each for some time, and in memory alone."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from isthmus.serving.engine import Job, has_its_share
from isthmus.serving.errors import ApiError, api_error
from isthmus.serving.limits import ServingLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Film:
    """A film that was made.

    Attributes:
        data: its file.
        seconds: that it lasts.
        size: width x height.
    """

    data: bytes = field(repr=False)
    seconds: float
    size: str


@dataclass(eq=False)
class VideoJob:
    """A film that is being made, or was.

    Attributes:
        owner: who may see it.
        facts: what clients are told at any time.
        job: in the engine; None once it has ended, so that its prompt isn't kept as long as its film.
        film: once it was made.
        error: why it couldn't be.
        progress: per cent.
        task: that waits for the film.
        expiry: the timer that removes it.
    """

    owner: str
    facts: dict[str, Any]
    job: Job | None
    film: Film | None = None
    error: ApiError | None = None
    progress: int = 0
    id: str = field(default_factory=lambda: f"video_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    ended: int | None = None
    task: asyncio.Task[None] | None = None
    expiry: asyncio.TimerHandle | None = None

    def told(self, kept: float) -> dict[str, Any]:
        """The job as OpenAI's clients read it; a film is kept for so many seconds after it was made."""
        running = "queued" if self.job and self.job.stage == "waiting" else "in_progress"
        status = "completed" if self.film else "failed" if self.error else running
        film = self.film
        return {
            "id": self.id,
            "object": "video",
            "created_at": self.created,
            "completed_at": self.ended,
            "expires_at": None if self.ended is None else self.ended + int(kept),
            "status": status,
            "progress": 100 if film else self.progress,
            "seconds": f"{film.seconds:g}" if film else None,
            "size": film.size if film else None,
            "error": None if self.error is None else self.error.body["error"],
            "remixed_from_video_id": None,
            **self.facts,
        }


class VideoJobs:
    """The jobs of a server.

    Args:
        limits: how many are kept, and for how long.
    """

    def __init__(self, limits: ServingLimits) -> None:
        self.most, self.kept = limits.videos, limits.video_seconds
        self._jobs: dict[str, VideoJob] = {}
        self._begun: Counter[str] = Counter()

    @contextmanager
    def room(self, owner: str) -> Iterator[None]:
        """Holds a place for an owner's job that is added within the block.

        Raises:
            ApiError: it has as many as it keeps, or the owner's share of them.
        """
        held = len(self.of(owner)) + self._begun[owner]
        free = self.most - len(self._jobs) - self._begun.total()
        if has_its_share(held, free):
            found = f"found {self.most} kept ones, which is the most"
            if free > 0:
                found = f"found {held} kept ones of yours and {free} free places, which are left to others"
            found = f"videos: {found}. Fix: delete some, or try again later."
            raise ApiError(429, found, code="busy", headers={"Retry-After": "60"})
        self._begun[owner] += 1
        try:
            yield
        finally:
            self._begun[owner] -= 1
            self._begun += Counter()  # forgets owners without any

    def add(self, job: VideoJob, making: Awaitable[Film]) -> None:
        """Keeps a job from now on, until some time after its film was made."""
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._await(job, making))

    def find(self, name: str, owner: str) -> VideoJob:
        """The job of this name.

        Raises:
            ApiError: the owner has none.
        """
        job = self._jobs.get(name)
        if job is None or job.owner != owner:
            found = f"video: found none called '{name[:80]}'. Fix: ask for one that isn't deleted or expired."
            raise ApiError(404, found, "video_id", "video_not_found")
        return job

    def of(self, owner: str) -> list[VideoJob]:
        """An owner's jobs, the oldest first."""
        return [job for job in self._jobs.values() if job.owner == owner]

    def remove(self, job: VideoJob) -> None:
        """Forgets a job; one that runs ends before its next token."""
        self._jobs.pop(job.id, None)
        if job.job is not None:
            job.job.cancel()
        for waits in (job.task, job.expiry):
            if waits is not None:
                waits.cancel()

    def close(self) -> None:
        """Forgets all jobs: nobody can fetch a film from a server that ends."""
        for job in list(self._jobs.values()):
            self.remove(job)

    async def _await(self, job: VideoJob, making: Awaitable[Film]) -> None:
        try:
            job.film = await making
        except Exception as error:  # whatever it is, the job has ended and its place must become free
            if not isinstance(error, ApiError):
                log.exception("A film couldn't be written")
            job.error = api_error(error).again()
        finally:
            job.job = None
            if job.id in self._jobs:
                job.ended = int(time.time())
                job.expiry = asyncio.get_running_loop().call_later(self.kept, self.remove, job)
