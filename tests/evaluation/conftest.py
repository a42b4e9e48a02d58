"""The tiny experts, written once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_world import tiny_experts


@pytest.fixture(scope="session")
def tiny_experts_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Expert -> its folder."""
    return tiny_experts(tmp_path_factory.mktemp("experts"))
