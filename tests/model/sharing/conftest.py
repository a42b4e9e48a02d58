"""A bundle beside its experts, as the tests of bundles have it: made once, and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from model.test_bundle import made_clone


@pytest.fixture(scope="session")
def whole_clone(experts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_clone(experts, tmp_path_factory.mktemp("whole") / "clone")


@pytest.fixture
def clone(whole_clone: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole_clone, tmp_path / "clone")
