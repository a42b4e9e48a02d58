"""Between denoising steps: whoever waits for a medium is told how far it is, may look at it, and may stop it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from torch import Tensor

from isthmus.types import Media

Estimates = Callable[[Collection[Any]], dict[Any, Media]]
"""Rows of a batch -> for each that is being denoised, the medium that the denoiser predicts now.

It is decoded only when this is called. Without :attr:`isthmus.generators.base.Generator.has_estimates` there are none.
"""
Watch = Callable[[int, int, Estimates], None]
"""Is called after each step with the number of steps that are done, of all, and the estimates; what it raises ends the
generation."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Generators that run within the block call ``watch`` between denoising steps."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def named_rows(names: Sequence[Any]) -> Iterator[None]:
    """The watch asks for estimates by these names of the rows of a batch that is made within the block."""
    watch = _watch.get()
    if watch is None:
        yield
        return

    def renamed(done: int, total: int, estimates: Estimates) -> None:
        def by_name(wanted: Collection[Any]) -> dict[Any, Media]:
            rows = [row for row, name in enumerate(names) if name in wanted]
            return {names[row]: medium for row, medium in estimates(rows).items()}

        watch(done, total, by_name)

    with watched(renamed):
        yield


def evenly_spaced(total: int, count: int) -> list[int]:
    """The numbers of steps after which ``count`` estimates are shown, all before the last of ``total`` steps.

    Where there are fewer steps than that, each but the last.
    """
    count = min(count, total - 1)
    return [place * total // (count + 1) for place in range(1, count + 1)]


def announces_steps(
    scheduler: Any, estimate: Callable[[Any, Tensor, Any, Tensor, Collection[int]], dict[int, Media]]
) -> Any:
    """The same scheduler of ``diffusers``, which calls the watch, if there is one, after each step.

    Every pipeline steps its scheduler, but not every one takes a callback.

    Args:
        scheduler: to be changed.
        estimate: scheduler, the denoiser's output, timestep, latents before the step and rows -> the rows' estimates.
    """
    step = scheduler.step

    @wraps(step)
    def stepped(model_output: Any, timestep: Any, sample: Any, *args: Any, **options: Any) -> Any:
        found = step(model_output, timestep, sample, *args, **options)
        watch = _watch.get()
        if watch is not None:
            times = scheduler.timesteps
            at = (times == timestep).nonzero()  # a scheduler of second order visits some times twice
            done = int(at[-1]) + 1 if len(at) else 0
            watch(done, len(times), lambda rows: estimate(scheduler, model_output, timestep, sample, rows))
        return found

    scheduler.step = stepped
    return scheduler
