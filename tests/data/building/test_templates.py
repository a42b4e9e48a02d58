"""Templates are checked before anything is built; a fault names file and key."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.data.building.templates import PLACES, placeholders, read_templates


def test_the_packages_own_are_whole() -> None:
    own = read_templates()
    assert set(own.turns) == set(PLACES) and all(own.shares.values())
    assert len(own.ordinals) >= 6  # as many media of a modality as a dialogue may show
    for kind, turns in own.turns.items():
        for turn, wordings in turns.items():
            known, needed = PLACES[kind][turn]
            for wording in wordings:
                assert needed <= set(placeholders(wording)) <= known


def change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(raw: dict[str, Any]) -> None:
        *path, last = key.split(".")
        for part in path:
            raw = raw[part]
        if value is None:
            del raw[last]
        else:
            raw[last] = value

    return apply


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("words.image", None, "words: found no 'image'"),
        ("words.smell", "scent", "words: found 'smell'; expected image"),
        ("kinds.sing", {}, "kinds: found 'sing'; expected describe"),
        ("kinds.make.ask", [], r"kinds.make.ask: found an empty list"),
        ("kinds.make.ask", ["Make {a_word}."], r"kinds.make.ask\[0\]: found no {caption}"),
        ("kinds.make.say", ["Here {medium} {colour}"], r"kinds.make.say\[0\]: found {colour}; expected some of"),
        ("kinds.make.say", ["Here {medium"], r"kinds.make.say\[0\]: .*pairs of braces"),
        ("kinds.make.share", "much", "kinds.make.share: found 'much'"),
        ("ordinals", [1], r"ordinals\[0\]: found 1; expected words"),
        ("kinds.recall", None, "kinds: found no 'recall'"),
        ("ordinals", ["first", "second"], "ordinals: found 2; expected at least 3"),
        ("ordinals", ["first", "next", "next"], "ordinals: found 'next' twice"),
        ("words.video", "picture", "words: found 'picture' twice"),
        ("kinds", "all", "kinds: found str; expected a mapping"),
    ],
)
def test_faults_are_named(key: str, value: Any, message: str, tmp_path: Path) -> None:
    raw = yaml.safe_load(files("isthmus.data.building").joinpath("templates.yaml").read_text())
    change(key, value)(raw)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=rf"own.yaml: {message}"):
        read_templates(path)


def test_a_file_that_cant_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.yaml: it can't be read"):
        read_templates(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("kinds: [")
    with pytest.raises(ValueError, match=r"bad.yaml: it can't be read"):
        read_templates(tmp_path / "bad.yaml")
