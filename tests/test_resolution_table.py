"""docs/parts/resolution.md shows what its script counts, and the script counts what the formula says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PARTS = Path(__file__).resolve().parents[1] / "docs" / "parts"


@pytest.mark.slow
def test_the_page_shows_what_the_script_prints() -> None:
    script = runpy.run_path(str(PARTS / "resolution.py"))
    assert script["as_markdown"](script["table"]()) in (PARTS / "resolution.md").read_text(encoding="utf-8")


def test_operations_by_the_formula(tmp_path: Path) -> None:
    """Of a transformer: 24 D^2 a token and 4 N D for its attention in each layer, and the patches' projection."""
    script = runpy.run_path(str(PARTS / "resolution.py"))
    tokens, width, layers = 257, 1024, 24
    blocks = layers * tokens * (24 * width**2 + 4 * tokens * width)
    patches = 2 * 256 * width * 3 * 14**2
    assert script["floating_point_operations"](script["clip_folder"](tmp_path), 224) == blocks + patches
