"""Manifests: filters, rows of arrays and strokes, and every real set that is at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.data.conversations.schema import MediumItem
from isthmus.data.errors import DataError
from isthmus.data.formats import ManifestSource
from isthmus.data.formats.strokes import Strokes
from isthmus.data.lint import Linter
from isthmus.types import Media, Modality

RECORDS: list[dict[str, Any]] = [
    {"id": "0", "modality": "image", "path": "0.png", "caption": "a cat", "label": "cat", "split": "train"},
    {
        "id": "1",
        "modality": "pointcloud",
        "path": "c.npz",
        "row": 1,
        "caption": "a box",
        "label": "box",
        "split": "test",
    },
    {"id": "2", "modality": "video", "path": "s.jsonl", "row": 0, "caption": "a pen", "label": "one", "split": "train"},
]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "0.png").touch()
    clouds = np.random.default_rng(0).random((2, 5, 3)).astype(np.float16)
    np.savez_compressed(tmp_path / "c.npz", points=clouds, label=np.arange(2))
    (tmp_path / "s.jsonl").write_text('{"strokes": [[[0, 0], [0, 10]], [[5, 5], [9, 5]]]}\n', encoding="utf-8")
    return rewrite(tmp_path, RECORDS)


def rewrite(folder: Path, records: list[dict[str, Any]]) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def medium(source: ManifestSource, index: int) -> MediumItem:
    (found,) = [m for turn in source[index].messages for m in turn.content if isinstance(m, MediumItem)]
    return found


def test_modalities_are_known_without_their_files(manifest: Path) -> None:
    for name in ("0.png", "c.npz", "s.jsonl"):
        (manifest.parent / name).unlink()
    assert list(ManifestSource(manifest).labels()) == ["image", "points", "video"]
    assert list(ManifestSource(manifest, splits=["test"]).labels()) == ["points"]
    rewrite(manifest.parent, [*RECORDS, {"modality": "smell", "path": "0.png"}])
    assert list(ManifestSource(manifest).labels())[3] == "image"  # its fault is told when it is read


def test_filters_details_and_answers(manifest: Path) -> None:
    source = ManifestSource(manifest)
    assert len(source) == 3 and source[0].details == {
        "id": "0", "modality": "image", "caption": "a cat", "label": "cat", "split": "train",
    }  # fmt: skip
    assert [medium(source, i).modality for i in range(3)] == ["image", "points", "video"]
    assert len(ManifestSource(manifest, splits=["train"])) == 2
    assert ManifestSource(manifest, modalities=[Modality.POINTS])[0].details["id"] == "1"
    assert ManifestSource(manifest, labels=["one", "cat"], splits=["train"], modalities=[Modality.VIDEO])[0]
    (said,) = ManifestSource(manifest, answer="label")[1].messages[1].content
    assert said.text == "box"  # type: ignore[union-attr]
    assert medium(ManifestSource(manifest, direction="draw"), 1).caption == "a box"
    with pytest.raises(ValueError, match="found no record"):
        ManifestSource(manifest, splits=["validation"])


def test_rows_are_the_arrays_own(manifest: Path) -> None:
    media = medium(ManifestSource(manifest), 1).media
    assert isinstance(media, Media)
    with np.load(manifest.with_name("c.npz")) as arrays:
        assert np.array_equal(media.array, arrays["points"][1].astype(np.float32))
    clouds = np.zeros((2, 5, 3))
    clouds[1, 2, 0] = np.nan
    np.savez(manifest.with_name("c.npz"), points=clouds)
    with pytest.raises(DataError, match=r"c\.npz\[1\]: .*1 of 5 points aren't finite"):
        ManifestSource(manifest)[1]


def test_strokes_grow_and_end_as_they_were_drawn() -> None:
    pictures, rate = Strokes(size=32, frames=4, interval=0.1).render([[[0, 0], [0, 10]], [[5, 5], [9, 5]]], "here")
    ink = (pictures == 0).sum(axis=(1, 2, 3))
    assert pictures.shape == (4, 32, 32, 3) and rate == pytest.approx(10.0)
    assert (np.diff(ink) >= 0).all() and ink[-1] > ink[0] > 0
    # y is up: the upright stroke spans all rows on the left, the short one lies in the middle.
    rows, columns = np.nonzero(pictures[-1, :, :, 0] == 0)
    assert rows.min() < 5 and rows.max() > 26 and abs(rows[columns > 20].mean() - 15.5) < 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"row": 9}, "found 9 of 2"),
        ({"row": -1}, "a number from 0"),
        ({"row": True}, "a number from 0"),
        ({"path": "../c.npz"}, "leads outside"),
        ({"path": "0.png"}, "a row of points in .png"),
        ({"modality": "smell"}, "found 'smell'"),
        ({"caption": ""}, "found no words"),
        ({"path": "absent.npz"}, "no file at"),
    ],
)
def test_faults_name_the_line(manifest: Path, change: dict[str, Any], says: str) -> None:
    rewrite(manifest.parent, [RECORDS[0], {**RECORDS[1], **change}])
    with pytest.raises(DataError, match=r"manifest\.jsonl:2") as caught:
        ManifestSource(manifest)[1]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "kinds"),
    [
        ("digits", 23_402, {"image", "video", "audio", "points"}),
        ("emoji", 2_355, {"image", "video"}),
        ("ldraw3d", 2_868, {"points"}),
    ],
)
def test_real_sets_load(shared: Path, name: str, size: int, kinds: set[str]) -> None:
    path = shared / "data" / name / "manifest.jsonl"
    if not path.is_file():
        pytest.skip(f"the set is not at {path}")
    report = Linter().lint(ManifestSource(path), sample=150)
    assert (report.size, report.read, report.usable) == (size, 150, 150)
    assert {kind for kind in report.kinds if kind.endswith(" given")} == {f"{k} given" for k in (*kinds, "text")}
    if name == "digits":
        meshes = ManifestSource(path, modalities=[Modality.POINTS], splits=["test"], labels=["four"])
        assert any(str(meshes[i].details["id"]).startswith("numbers3d/") for i in range(len(meshes)))


def test_modalities_are_named_as_in_a_config(manifest: Path) -> None:
    from isthmus.cli.sets.opening import open_sets

    (source,) = open_sets([str(manifest)], "ManifestSource", None, ["modalities=[image]"]).values()
    assert list(source.labels()) == ["image"]
    with pytest.raises(ValueError, match=r"modalities: found 'smell'; expected some of image, video"):
        ManifestSource(manifest, modalities=["smell"])
