"""A server on loopback in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import uvicorn

from isthmus.inference.pipeline import Pipeline
from isthmus.serving.app import create_app
from isthmus.serving.limits import ServingLimits
from isthmus.serving.server import configured

LIMITS = ServingLimits(slots=2, queue=2, tokens=400, parts=12, body=2 << 20, inference_steps=4)
HASTY = replace(LIMITS, body_seconds=1.0, head_seconds=1.0)
"""For tests of slow clients alone: on a busy machine a good one is slow now and then."""


@contextmanager
def served(opened: Pipeline, **options: Any) -> Iterator[str]:
    """The address of a server that runs within the block."""
    app = create_app(opened, "tiny", **{"limits": LIMITS} | options)
    server = uvicorn.Server(configured(app, "127.0.0.1", 0, options.get("limits", LIMITS)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def wait_for(holds: Callable[[], bool], pause: float = 0.05) -> None:
    """Until it holds, looking again after each pause; what a server does after its answer is seen a moment later."""
    for _ in range(round(30 / pause)):
        if holds():
            return
        time.sleep(pause)
    raise AssertionError("it never held")
