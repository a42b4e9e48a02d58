"""What Prometheus reads at ``/metrics``: counts, times and the engine's load; nothing of what was said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures of one server.

    Args:
        load: how many jobs are in each state.
    """

    def __init__(self, load: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("isthmus_requests", "Requests that were answered.", ("route", "status"), registry=own)
        self.seconds = Histogram(
            "isthmus_request_seconds", "To the end of a response.", ("route",), buckets=SECONDS, registry=own
        )
        self.tokens = Counter("isthmus_tokens", "Tokens of prompts and answers.", ("kind",), registry=own)
        jobs = Gauge("isthmus_jobs", "Jobs in the engine.", ("state",), registry=own)
        for state in load():
            jobs.labels(state).set_function(partial(_of, load, state))

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


def _of(load: Callable[[], Mapping[str, int]], state: str) -> float:
    return load()[state]
