"""Fairness between clients: those whose jobs wait take turns, and none takes all places."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from isthmus.serving.engine.jobs import Job

SHARE = 4
"""A client may hold at most so many times as many places as are free."""


def has_its_share(held: int, free: int) -> bool:
    """Whether a client who holds so many places gets none of those that are free, so that others find some."""
    return held >= SHARE * free


class FairQueue:
    """First in, first out for each client; round robin over the clients who have jobs in it."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def __iter__(self) -> Iterator[Job]:
        for jobs in self._clients.values():
            yield from jobs

    def push(self, job: Job) -> None:
        """Adds a job behind its client's others. A client who had none comes last."""
        self._clients.setdefault(job.client, deque()).append(job)

    def pop(self) -> Job:
        """The oldest job of the client whose turn it is, who then comes last. There must be one."""
        client, jobs = next(iter(self._clients.items()))
        job = jobs.popleft()
        self._clients.move_to_end(client)
        if not jobs:
            del self._clients[client]
        return job

    def take_over(self) -> list[Job]:
        """Removes and returns the jobs that nobody waits for, or whose time is over."""
        gone = [job for job in self if job.is_over]
        for job in gone:
            self._clients[job.client].remove(job)
            if not self._clients[job.client]:
                del self._clients[job.client]
        return gone
