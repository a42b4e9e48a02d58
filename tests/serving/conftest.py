"""A server on loopback, over a tiny model, and the official client of its interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from served import served
from tiny_bundle import bundle, files, opened

from isthmus.inference.pipeline import Pipeline

__all__ = ["bundle", "files", "opened"]

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


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client
