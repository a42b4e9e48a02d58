"""A server on loopback, over a tiny model, and the official client of its interface."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from served import HASTY, LIMITS, served
from tiny_bundle import bundle, files, opened, worded

from isthmus.inference.pipeline import Pipeline

__all__ = ["bundle", "files", "opened", "worded"]

Serving = Callable[..., Any]


@pytest.fixture(scope="session")
def serving(opened: Pipeline) -> Serving:
    """Options -> a server with them, in a block."""
    return lambda **options: served(opened, **options)


@pytest.fixture(scope="session")
def address(opened: Pipeline) -> Iterator[str]:
    """Of a server for all tests."""
    with served(opened) as address:
        yield address


@pytest.fixture(scope="session")
def hasty(opened: Pipeline) -> Iterator[str]:
    """Of a server that waits for nobody, for all tests of slow clients."""
    with served(opened, limits=HASTY) as address:
        yield address


@pytest.fixture(scope="session")
def paged(opened: Pipeline, worded: Pipeline, bundle: Path) -> Iterator[str]:
    """Of a server with the app, for all tests: two models, of which the first has a run's results."""
    (bundle.parent / "gallery.html").write_text("<p>made</p>")
    limits = replace(LIMITS, body_seconds=2.0)
    figures = {"digit": 0.5, "n": 4, "interval": {"digit": [0.2, 0.8]}}
    (bundle.parent / "matrix.json").write_text(json.dumps({"cells": {"text->image": figures}}))
    with served(opened, limits=limits, has_page=True, adapters={"words": worded}, folders={"tiny": bundle}) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client
