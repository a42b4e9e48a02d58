"""``isthmus data build`` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isthmus.cli import main
from isthmus.data.conversations.schema import MediumItem
from isthmus.data.conversations.sources import JsonLines


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    records = []
    for number, name in enumerate(("a cat", "a dog", "a cow")):
        pixels = np.full((16, 16, 3), 60 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        records.append({"modality": "image", "path": f"{number}.png", "caption": name, "split": "train"})
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_builds_and_reports(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "built"
    options = ["--size", "40", "--share", "refuse=3", "--option", "splits=[train]"]
    main(["data", "build", str(manifest), str(out), *options, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["written"] == found["read"] == sum(found["kinds"].values()) == 40
    assert found["media"] == {"image": 3} and found["kinds"]["refuse"] > 3 and "convert" not in found["kinds"]
    built = JsonLines(out / "conversations.jsonl")
    assert len(built) == 40 and len(list((out / "media").rglob("*.png"))) == 3

    main(["data", "lint", str(out / "conversations.jsonl"), "--fail_on", "error"])
    assert "40 usable" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "build", str(manifest), str(out)])
    assert "found conversations.jsonl; expected no set there" in capsys.readouterr().err
    main(["data", "build", str(manifest), str(out), "--size", "7", "--overwrite"])
    assert "7 of 7 written" in capsys.readouterr().out
    assert len(JsonLines(out / "conversations.jsonl")) == 7


def test_the_report_as_text(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "build", str(manifest), str(tmp_path / "built"), "--size", "30"])
    told = capsys.readouterr().out
    assert "media: 3 image; 0 captions have several modalities" in told
    assert "made: image" in told and "no convert, remake" in told
    holding = next(line for line in told.splitlines() if line.startswith("holding: "))
    written = JsonLines(tmp_path / "built" / "conversations.jsonl")
    items = [item for index in range(30) for message in written[index].messages for item in message.content]
    images = sum(isinstance(item, MediumItem) for item in items)
    given, made = (int(re.search(rf"(\d+) image {side}", holding)[1]) for side in ("given", "made"))  # type: ignore[index]
    assert given + made == images > 0
    assert "0 captions have several modalities" in told and "30 of 30 written; skipped: none" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--share", "refuse"], "--share: found 'refuse'; expected kind=number"),
        (["--share", "sing=1"], "found sing: 1.0"),
        (["--templates", "none.yaml"], "none.yaml: it can't be read"),
        (["--text_share", "0.5"], "0.5 with 0 sets of text"),
    ],
)
def test_bad_options_are_told(
    options: list[str], message: str, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["data", "build", str(manifest), str(tmp_path / "built"), *options])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "built").exists()
