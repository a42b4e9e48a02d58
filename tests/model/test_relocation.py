"""Experts' folders, found again from a bundle that is opened elsewhere than where it was trained."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from isthmus.model.relocation import relocated


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one expert and the folder of one stage; tests stand elsewhere."""
    clone = tmp_path / "clone"
    (clone / "checkpoints" / "llama").mkdir(parents=True)
    (clone / "runs" / "one" / "stage").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return clone


def found(checkpoint: str, bundle: Path) -> str:
    moved = relocated({"checkpoint": checkpoint}, bundle)["checkpoint"]
    assert isinstance(moved, str)
    return moved


def test_checkpoints_anywhere_inside_are_found_and_nothing_else_changes(clone: Path) -> None:
    configuration = {
        "encoders": [{"class_path": "A", "init_args": {"checkpoint": "checkpoints/llama", "modalities": ["image"]}}],
        "backbone": {"init_args": {"checkpoint": "checkpoints/llama", "lora": None}},
        "name": "checkpoints/llama",
        "checkpoint": {"checkpoint": "checkpoints/gone"},
        "seed": 3,
    }
    before = deepcopy(configuration)
    moved = relocated(configuration, clone / "runs" / "one" / "stage")
    there = str(clone / "checkpoints" / "llama")
    assert moved == {
        "encoders": [{"class_path": "A", "init_args": {"checkpoint": there, "modalities": ["image"]}}],
        "backbone": {"init_args": {"checkpoint": there, "lora": None}},
        "name": "checkpoints/llama",
        "checkpoint": {"checkpoint": "checkpoints/gone"},
        "seed": 3,
    }
    assert configuration == before


def test_the_nearest_parent_wins(clone: Path) -> None:
    bundle = clone / "runs" / "one" / "stage"
    nearer = clone / "runs" / "checkpoints" / "llama"
    nearer.mkdir(parents=True)
    assert found("checkpoints/llama", bundle) == str(nearer)
    assert found("llama", nearer.parent / "stage") == str(nearer)


def test_a_relative_bundle_is_meant_from_here(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone / "runs")
    assert found("checkpoints/llama", Path("one/stage")) == str(clone / "checkpoints" / "llama")


def test_a_bundle_behind_a_link_is_sought_where_it_is_named_and_where_it_lies(clone: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "linked"
    link.symlink_to(clone / "runs" / "one" / "stage")
    assert found("checkpoints/llama", link) == str(clone / "checkpoints" / "llama")
    named = tmp_path / "elsewhere" / "checkpoints" / "llama"
    named.mkdir(parents=True)
    assert found("checkpoints/llama", link) == str(named)
    assert found("checkpoints/llama", Path("linked")) == str(named)


def test_absolute_paths_stay(clone: Path, tmp_path: Path) -> None:
    bundle = clone / "runs" / "one" / "stage"
    for path in (clone / "checkpoints" / "llama", tmp_path / "gone"):
        assert found(str(path), bundle) == str(path)
