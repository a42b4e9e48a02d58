"""How folders of transformers and diffusers are read: from this machine alone, and without running code of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

AUTO_MAP = "auto_map"
"""The field by which a checkpoint's json names classes in Python files of its own."""


@contextmanager
def on_meta() -> Iterator[None]:
    """The block builds on the meta device, without fake tensors: libraries read numbers while they build."""
    with _disable_current_modes(), torch.device("meta"):
        yield


def read_published(kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained`` of a folder. Nothing is fetched, nothing is asked on stdin, and no code of it is run.

    Many folders name code of their own (``auto_map``) beside a ``model_type`` that the library knows, whose class then
    reads them.

    Args:
        kind: a class of ``transformers`` or ``diffusers``.
        folder: on this machine.
        options: of ``from_pretrained``.

    Raises:
        ValueError: there is no such folder, or it can be read by code of its own alone. What else is wrong is the
            library's own error.
    """
    if not folder.exists():  # the library would take it for a name on the hub
        raise ValueError(
            f"{folder}: found no such folder; expected what {kind.__name__}.save_pretrained writes. Fix: correct "
            "the path, or fetch the checkpoint to it."
        )
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        named = ", ".join(own_code(folder)) or "files of its own"
        raise ValueError(
            f"{folder}: found code of the checkpoint's own, that {named}; expected a model that "
            f"{kind.__module__.partition('.')[0]} has a class for. A checkpoint's code is never run here. Fix: take a "
            "checkpoint of an architecture that the library has, or convert this one to it."
        ) from error


def own_code(folder: Path) -> Iterator[str]:
    """What in a folder names code: each json file with an ``auto_map``, and the classes there."""
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # whoever needs the file says so
            continue
        if isinstance(content, dict) and isinstance(content.get(AUTO_MAP), dict):
            yield f"{file.name} names under {AUTO_MAP} ({', '.join(map(str, content[AUTO_MAP].values()))})"
