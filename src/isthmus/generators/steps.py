"""Between denoising steps: whoever waits for a medium is told how far it is, and may stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

Watch = Callable[[int, int], None]
"""Is called after each step with the number of steps that are done, and of all; what it raises ends the generation."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Generators that run within the block call ``watch`` between denoising steps."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def announces_steps(scheduler: Any) -> Any:
    """The same scheduler of ``diffusers``, which calls the watch, if there is one, after each step.

    Every pipeline steps its scheduler, but not every one takes a callback.
    """
    step = scheduler.step

    @wraps(step)
    def stepped(model_output: Any, timestep: Any, *args: Any, **options: Any) -> Any:
        found = step(model_output, timestep, *args, **options)
        watch = _watch.get()
        if watch is not None:
            times = scheduler.timesteps
            at = (times == timestep).nonzero()  # a scheduler of second order visits some times twice
            watch(int(at[-1]) + 1 if len(at) else 0, len(times))
        return found

    scheduler.step = stepped
    return scheduler
