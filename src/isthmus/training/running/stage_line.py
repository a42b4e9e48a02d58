"""One line that shows how far a stage has come: a bar on a terminal, now and then a line of its own elsewhere."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from logging import Handler, StreamHandler, getLogger
from shutil import get_terminal_size
from time import perf_counter
from typing import Any, TextIO

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

BAR = "{desc} {n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"
SECONDS = 0.5
"""Between two looks at a step's figures on a terminal: each look waits for the device."""
SOONEST, LATEST, SHARE = 30.0, 600.0, 0.5
"""Between two lines where there is no terminal: half of the time so far, within these bounds in seconds."""
LOGGERS = (None, "isthmus", "pytorch_lightning", "lightning_fabric")
"""Those whose messages may go to the terminal; None is the root."""


class StageLine:
    """Shows one stage; on stderr, where messages go, so that both come in their order.

    Args:
        name: of what is shown.
        total: its steps.
        done: steps that were taken before, by a run that this one goes on from.
    """

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.first = name, total, done
        self.done = done
        self._stream: TextIO = sys.stderr
        self._began = self._shown = perf_counter()
        self._bar: tqdm | None = None
        self._within = ExitStack()
        if self._stream.isatty():
            shape = _shape(self._stream)
            self._bar = tqdm(
                total=total, initial=done, desc=name, bar_format=BAR, file=self._stream, leave=True, **shape
            )
            # Messages come above the bar, which is drawn anew below them.
            consoles = [each for each in map(getLogger, LOGGERS) if any(map(_is_console, each.handlers))]
            self._within.enter_context(logging_redirect_tqdm(consoles))

    @property
    def is_due(self) -> bool:
        """Whether it is time to show something."""
        now = perf_counter()
        wait = min(max(SHARE * (now - self._began), SOONEST), LATEST) if self._bar is None else SECONDS
        return now - self._shown >= wait

    def show(self, done: int, figures: str, is_over: bool = False) -> None:
        """Shows that so many steps are done, with these figures, and whether no more will come."""
        self.done, self._shown = done, perf_counter()
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_postfix_str(figures)  # draws it
            return
        taken = self._shown - self._began
        left = tqdm.format_interval((self.total - done) * taken / (done - self.first)) if done > self.first else "?"
        time = f"in {tqdm.format_interval(taken)}" if is_over else f"{left} left"
        told = [f"{self.name}: {done} of {self.total} {time}", *([figures] if figures else [])]
        print(", ".join(told), file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the line as it is; what follows begins a new one."""
        if self._bar is not None:
            self._bar.close()
        self._within.close()


def _is_console(handler: Handler) -> bool:
    return isinstance(handler, StreamHandler) and handler.stream in (sys.stderr, sys.stdout)


def _shape(stream: TextIO) -> dict[str, Any]:
    """How wide a bar may be: as the terminal is at any time, or 80 columns where it doesn't say, as ``script``'s."""
    try:
        if os.get_terminal_size(stream.fileno()).lines:
            return {"dynamic_ncols": True}
    except OSError:
        pass
    size = get_terminal_size()
    return {"ncols": size.columns - 1, "nrows": size.lines}
