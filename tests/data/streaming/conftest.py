"""One set as files and as shards, for tests that don't change them."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.streaming.shard_sets import sharded, small

from isthmus.data.conversations.sources import JsonLines


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> JsonLines:
    return small(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def whole(files: JsonLines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its shards."""
    return Path(sharded(files, str(tmp_path_factory.mktemp("shards") / "set")))
