"""A few warm processes for what may hang, crash or eat memory. One that does is killed, and another takes its place."""

from __future__ import annotations

import json
import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any

from isthmus.serving.guard.worker import NO_MEMORY, Facts, Handler, work

TASKS = 256
"""Of a worker's life: what libraries leak goes with it."""
LONGEST_ANSWER = 1 << 20
"""Bytes of a message from a worker. Arrays come as files."""
ENDING = {signal.SIGTERM, signal.SIGINT}
"""They may go to all processes of a terminal, a container or a service, but the server still answers what runs."""


class WorkerEnded(Exception):
    """A worker was killed, or ended by itself, before its task was done.

    Args:
        reason: "time", "memory" or "crash".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Workers:
    """Processes that do one task after another each.

    They are forked from a small process that has loaded libraries and nothing else: never from the server, whose
    threads and model a fork would copy. Any thread may call :meth:`run`.

    Args:
        handler: does tasks; it is pickled.
        count: of processes.
        memory: bytes that a process may allocate.
        disk: bytes of a file that it writes.
        preload: modules that every process has.
    """

    def __init__(self, handler: Handler, count: int, memory: int, disk: int, preload: Sequence[str]) -> None:
        self.count = count
        self._arguments = (handler, memory, disk)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._idle: queue.Queue[_Worker | None] = queue.Queue()  # None: one that is to be started
        self._starting = threading.Lock()
        for _ in range(count):
            self._idle.put(None)

    def warm(self) -> None:
        """Starts all processes, in a thread of its own."""
        threading.Thread(target=self._warm, name="isthmus-workers", daemon=True).start()

    def close(self) -> None:
        """Ends the processes, when their tasks are done."""
        for _ in range(self.count):
            if (worker := self._idle.get()) is not None:
                worker.end()
        for _ in range(self.count):
            self._idle.put(None)

    def run(
        self, task: Facts, seconds: float, patience: float, answer: Callable[[Facts], Any] | None = None
    ) -> tuple[Facts, float]:
        """The result of a task, and the seconds that it took once a process was free.

        Args:
            task: for the handler.
            seconds: that it may take.
            patience: seconds to wait for a process that is free.
            answer: to what the handler asks in between.

        Raises:
            queue.Empty: none was free.
            WorkerEnded: it took too long or too much memory, or crashed.
        """
        worker = self._idle.get(timeout=patience)
        kept: _Worker | None = None
        try:
            if worker is None or not worker.process.is_alive():
                worker = self._started()
            begun = time.monotonic()
            found = worker.run(task | {"seconds": seconds}, seconds, answer)
            kept = worker if worker.tasks < TASKS and not worker.is_late else None
            return found, time.monotonic() - begun
        finally:
            if kept is None and worker is not None:
                worker.end()
            self._idle.put(kept)

    def _warm(self) -> None:
        for _ in range(self.count):
            worker = self._idle.get()
            try:
                worker = worker or self._started()
            finally:
                self._idle.put(worker)

    def _started(self) -> _Worker:
        with self._starting, _deaf():
            return _Worker(self._context, *self._arguments)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that this thread starts in the block never get :data:`ENDING`; they end with the server's pipes.

    A mask, unlike a handler, holds from a process's first moment on, for the one that forks workers too.
    """
    resource_tracker.ensure_running()  # starting it unmasks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """One process, and the server's end of its pipe."""

    def __init__(self, context: Any, handler: Handler, memory: int, disk: int) -> None:
        self.tasks = 0
        self.is_late = False
        self.pipe: Connection
        self.pipe, its = context.Pipe()
        self.process = context.Process(target=work, args=(its, handler, memory, disk), daemon=True)
        self.process.start()
        its.close()
        # Where the server ends without closing its workers, multiprocessing would wait until SIGTERM ends them.
        Finalize(self, self.process.kill, exitpriority=0)

    def run(self, task: Facts, seconds: float, answer: Callable[[Facts], Any] | None) -> Facts:
        """See :meth:`Workers.run`. When time is up the process is killed, which closes the pipe."""
        self.tasks += 1
        begun = time.monotonic()
        timer = threading.Timer(seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            self.pipe.send_bytes(json.dumps(task).encode())
            while True:
                found: Facts = json.loads(self.pipe.recv_bytes(LONGEST_ANSWER))
                if "ask" not in found:
                    return found
                assert answer is not None
                self.pipe.send_bytes(json.dumps(answer(found["ask"])).encode())
        except (EOFError, OSError):
            late = time.monotonic() - begun >= seconds
            self.end()
            raise WorkerEnded("time" if late else self._reason()) from None
        finally:
            timer.cancel()
            self.is_late = time.monotonic() - begun >= seconds  # it may be killed although its answer came

    def end(self) -> None:
        """Ends the process at once; it may have ended by itself."""
        self.pipe.close()
        self.process.join(0.2)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()

    def _reason(self) -> str:
        return "memory" if self.process.exitcode == NO_MEMORY else "crash"
