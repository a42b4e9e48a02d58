"""Small captioned sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data.formats.manifest import ManifestSource

NAMES = ("a cat", "a dog", "A cow.", "a bee")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four pictures and three clouds; three of them show the same."""
    records, random = [], np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        records.append({"id": f"i{number}", "modality": "image", "path": f"{number}.png", "caption": name})
    clouds = random.normal(size=(3, 32, 3)).astype(np.float32)
    np.savez(tmp_path / "clouds.npz", points=clouds)
    for row, name in enumerate(("a  cat", "a dog.", "a cow")):
        records.append({"id": f"p{row}", "modality": "points", "path": "clouds.npz", "row": row, "caption": name})
    for number, record in enumerate(records):
        record["split"] = "test" if number == 3 else "train"
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture
def source(manifest: Path) -> ManifestSource:
    """The set."""
    return ManifestSource(manifest)
