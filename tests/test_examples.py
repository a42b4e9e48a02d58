"""The example media are what their script draws; the example config describes captioned pictures, in any format."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_world import tiny_clone

from isthmus import cli
from isthmus.data.formats import CaptionTable, MediaFolder
from isthmus.data.media.files import read_media

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CAPTIONED = EXAMPLES / "captioned"


def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_examples", EXAMPLES / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_are_what_their_script_draws(tmp_path: Path) -> None:
    made = script()
    made.make_shown(tmp_path)
    made.make_captioned(tmp_path / "captioned")
    files = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    there = {path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*") if path.suffix not in (".py", ".md", ".pyc")}
    assert set(files) == {path for path in there if (EXAMPLES / path).is_file()}
    assert (tmp_path / "captioned/metadata.csv").read_bytes() == (CAPTIONED / "metadata.csv").read_bytes()
    for name, (modality, _) in made.SHOWN.items():
        pair = [read_media(folder / name, modality) for folder in (tmp_path, EXAMPLES)]
        # An encoder of videos rounds otherwise in another version, or on another processor.
        apart = np.abs(pair[0].array.astype(float) - pair[1].array).mean()
        assert apart < (4 if name.endswith(".mp4") else 1e-9), name
    for path in files[:: len(files) // 40]:
        if path.suffix == ".png":
            pair = [read_media(folder / path, "image") for folder in (tmp_path, EXAMPLES)]
            np.testing.assert_array_equal(pair[0].array, pair[1].array)


def test_the_captioned_set_is_read_as_a_folder_and_as_a_table() -> None:
    rows = list(csv.DictReader((CAPTIONED / "metadata.csv").open(encoding="utf-8")))
    for split, count in (("train", 240), ("validation", 60), ("test", 120)):
        told = [row["text"] for row in rows if row["split"] == split]
        table = CaptionTable(CAPTIONED / "metadata.csv", "image", "{file_name}", caption="text", splits=[split])
        for source in (MediaFolder(CAPTIONED, splits=[split]), table):
            assert [source[index].details["caption"] for index in range(len(source))] == told and len(told) == count


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny experts and the examples, where a clone has them."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    (folder / "examples").symlink_to(EXAMPLES)
    return folder


def quoted_table(folder: Path) -> dict[str, Any]:
    """A table with semicolons, single quotes and escapes, whose captions hold them too; a source that reads it."""
    folder.mkdir()
    rows = csv.DictReader((CAPTIONED / "metadata.csv").open(encoding="utf-8"))
    lines = ["name;said;split"]
    lines += [f"{row['file_name']};'it\\'s; {row['text']}, drawn';{row['split']}" for row in rows]
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    own = {"path": str(folder / "table.csv"), "root": str(CAPTIONED), "modality": "image", "file": "{name}"}
    own |= {"caption": "said", "delimiter": ";", "quote": "'", "escape": "\\"}
    return {"class_path": "isthmus.data.formats.CaptionTable", "init_args": own}


def parquet(folder: Path) -> dict[str, Any]:
    """The same pictures inside a Parquet file, as on the hub."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    folder.mkdir()
    rows = [
        {"image": {"bytes": (CAPTIONED / row["file_name"]).read_bytes(), "path": None}, **row}
        for row in csv.DictReader((CAPTIONED / "metadata.csv").open(encoding="utf-8"))
    ]
    write_table(pa.Table.from_pylist(rows), folder / "pictures.parquet")
    own = {"path": str(folder / "pictures.parquet"), "columns": {"caption": "text"}}
    return {"class_path": "isthmus.data.formats.HuggingFace", "init_args": own}


QUICK = {
    "data": {"batch_size": 4, "num_workers": 0},
    "training": {"stages": {"encoder_alignment": {"steps": 1}}},
    "trainer": {"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
    "model": {"backbone": {"init_args": {"max_length": 900}}, "sampling": {"max_new_tokens": 4}},
}


@pytest.mark.slow
def test_own_captions_are_learnt_and_measured_in_any_format(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    Path("quick.yaml").write_text(yaml.safe_dump(QUICK))
    run = ["-c", "examples/captions.yaml", "-c", "quick.yaml"]
    cli.train(["fit", *run])
    sources = {
        "folder": {"class_path": "isthmus.data.formats.MediaFolder", "init_args": {"path": str(CAPTIONED)}},
        "table": quoted_table(clone / "table"),
        "parquet": parquet(clone / "parquet"),
    }
    for name, source in sources.items():
        source["init_args"]["splits"] = ["test"]
        Path("own.yaml").write_text(yaml.safe_dump({"data": {"test": {"captions": source}}}))
        cli.train(["test", *run, "-c", "own.yaml"])
        found = json.loads(Path("runs/captions/captions.json").read_text(encoding="utf-8"))
        assert found["model"]["n"] == 120, name
        said = {reference for sample in found["samples"] for reference in sample["references"]}
        assert len(said) > 1 and all("it's; a " in one if name == "table" else one.startswith("a ") for one in said)
        # Every caption of the test split is one that training has too, but for those of the table, worded otherwise.
        assert ("model, new" in found) == (name == "table")
