"""The tiny experts, written once, and models composed of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_world import tiny_experts, tiny_model

from isthmus.model import AnyToAny

Build = Callable[..., AnyToAny]


@pytest.fixture(scope="session")
def experts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Expert -> its folder. Never written to."""
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture
def build(experts: dict[str, Path]) -> Build:
    """A built model of the tiny experts; keywords are those of ``tiny_model``."""

    def make(**options: Any) -> AnyToAny:
        model = tiny_model(experts, **options)
        model.configure_model()
        return model

    return make


@pytest.fixture
def model(build: Build) -> AnyToAny:
    """A model whose new rows are as loud as its LLM's, so that runs are called for at some places and not at others."""
    model = build()
    rows: Any = model.backbone.language_model.rows
    rows.run_starts.data.normal_(0, 0.6, generator=torch.Generator().manual_seed(1))
    return model
