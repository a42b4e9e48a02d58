"""Modules that moved since 0.1: their earlier names still import, so configurations and bundles of then load."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    f"isthmus.{room}.{old}": f"isthmus.{room}.{new}"
    for room, names in {
        "encoders": {
            "frames_encoder": "vision.frames_encoder",
            "frequency_encoder": "vision.frequency_encoder",
            "hubert": "speech.hubert",
            "tiles_encoder": "vision.tiles_encoder",
            "timm_vision": "vision.timm_vision",
            "transformers_vision": "vision.transformers_vision",
            "whisper": "speech.whisper",
        },
        "generators": {
            "audioldm": "audio.audioldm",
            "audioldm2": "audio.audioldm2",
            "shap_e": "points.shap_e",
            "stable_audio": "audio.stable_audio",
            "stable_diffusion": "image.stable_diffusion",
            "stable_diffusion_3": "image.stable_diffusion_3",
            "stable_diffusion_xl": "image.stable_diffusion_xl",
            "wan": "video.wan",
            "zeroscope": "video.zeroscope",
        },
        "training": {
            "group_policy": "objectives.group_policy",
            "input_wait": "running.input_wait",
            "preference": "objectives.preference",
            "progress": "running.progress",
            "throughput": "running.throughput",
        },
        "data": {
            "preferences": "conversations.preferences",
            "schema": "conversations.schema",
            "sources": "conversations.sources",
        },
    }.items()
    for old, new in names.items()
} | {
    "isthmus.evaluation.report.embedding": "isthmus.display.embedding",
    "isthmus.evaluation.views": "isthmus.display.views",
}
"""Modules that a configuration, a modality's specification or a notebook could name, by their names of 0.1."""


def present_path(class_path: Any) -> Any:
    """A class's path with its module's present name; whatever else is given, as it is."""
    if not isinstance(class_path, str):
        return class_path
    module, dot, name = class_path.rpartition(".")
    return f"{MOVED.get(module, module)}{dot}{name}"


class MovedFinder(MetaPathFinder):
    """Finds a moved module under its earlier name. It is asked last, after all that search the disk."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib; None for a name that never was."""
        return ModuleSpec(fullname, MovedLoader(MOVED[fullname])) if fullname in MOVED else None


class MovedLoader(Loader):
    """Gives the module itself, not a copy, so that its classes are the same under both names.

    Args:
        now: the module's present name.
    """

    def __init__(self, now: str) -> None:
        self.now = now

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its present name, with a warning that names it."""
        warnings.warn(f"{spec.name} is called {self.now} now", FutureWarning, stacklevel=2)
        module = import_module(self.now)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed; importlib has put the earlier name's spec on it, which goes."""
        module.__spec__ = self.spec


def redirect() -> None:
    """Lets the earlier names be imported, once a process."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())
