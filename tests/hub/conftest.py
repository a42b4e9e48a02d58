"""The hub on loopback, with an empty cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, reached


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Fetched into ``tmp_path / "cache"``."""
    with reached(tmp_path / "cache", monkeypatch) as found:
        yield found
