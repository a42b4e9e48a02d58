"""Folders of tiny pipelines, the generators on them, and media for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from newer_pipelines import NEWER, SMALL, write_newer
from tiny_pipelines import KINDS, write_pipeline

from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.types import Media, Modality

Build = Callable[..., DiffusionGenerator]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pipelines' folders. Never written to: :func:`copied` is for that."""
    found = {}
    for kind in KINDS:
        found[kind] = tmp_path_factory.mktemp("pipelines") / kind
        write_pipeline(kind, found[kind])
    return found


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a pipeline's folder, with fields of its json files replaced (None removes one)."""

    def copy(kind: str, **changes: dict[str, Any]) -> Path:
        return changed_copy(folders[kind], tmp_path / kind, changes)

    return copy


def changed_copy(source: Path, folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    names = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    for part, fields in changes.items():
        file = folder / "model_index.json" if part == "index" else folder / part / names.get(part, "config.json")
        content = {**json.loads(file.read_text()), **fields}
        file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return folder


@pytest.fixture
def build(folders: dict[str, Path]) -> Build:
    """A generator of a kind, from its tiny folder unless told another."""

    def make(kind: str, checkpoint: Path | None = None, **options: Any) -> DiffusionGenerator:
        options = {"num_frames": 3, **options} if kind == "video" else options
        return KINDS[kind](checkpoint or folders[kind], **options)

    return make


@pytest.fixture
def pipeline(folders: dict[str, Path]) -> Callable[..., Any]:
    """The library's own pipeline, loaded by itself."""

    def make(kind: str, checkpoint: Path | None = None) -> Any:
        from isthmus.generators.pipeline_classes import deprecation_silenced, pipeline_class

        with deprecation_silenced():
            found = pipeline_class(KINDS[kind].pipeline_name).from_pretrained(checkpoint or folders[kind])
        found.set_progress_bar_config(disable=True)
        return found

    return make


@pytest.fixture
def media() -> Callable[[str, int], list[Media]]:
    """Random media of a kind, of other sizes and rates than the generator's."""

    def make(kind: str, count: int) -> list[Media]:
        draw = np.random.default_rng(3)
        match kind:
            case "image":
                return [Media(Modality.IMAGE, draw.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(count)]
            case "video":
                return [Media(Modality.VIDEO, draw.integers(0, 256, (5, 16, 16, 3), np.uint8), 8) for _ in range(count)]
            case _:
                noise = [draw.uniform(-1, 1, 9000).astype(np.float32) for _ in range(count)]
                return [Media(Modality.AUDIO, samples, 22_050) for samples in noise]

    return make


@pytest.fixture(scope="session")
def newer_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a newer pipeline, written when it is first asked for. Never written to afterwards."""
    root = tmp_path_factory.mktemp("newer")

    def folder(kind: str) -> Path:
        if not (root / kind).is_dir():
            write_newer(kind, root / kind)
        return root / kind

    return folder


@pytest.fixture
def copied_newer(newer_folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """As ``copied``, of a newer pipeline; ``index`` stands for its ``model_index.json``."""

    def copy(kind: str, **changes: dict[str, Any]) -> Path:
        return changed_copy(newer_folder(kind), tmp_path / kind, changes)

    return copy


@pytest.fixture
def build_newer(newer_folder: Callable[[str], Path]) -> Build:
    """A generator of a newer kind, from its tiny folder unless told another."""

    def make(kind: str, checkpoint: Path | None = None, **options: Any) -> DiffusionGenerator:
        return NEWER[kind](checkpoint or newer_folder(kind), **{**SMALL.get(kind, {}), **options})

    return make


@pytest.fixture
def newer_library(newer_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    """The library's own newer pipeline, loaded by itself."""

    def make(kind: str) -> Any:
        from isthmus.generators.pipeline_classes import pipeline_class

        found = pipeline_class(NEWER[kind].pipeline_name).from_pretrained(newer_folder(kind))
        found.set_progress_bar_config(disable=True)
        return found

    return make
