"""A random BERT of a few thousand parameters in its real format."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_bert import write_bert


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder. Never written to."""
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder)
    return folder
