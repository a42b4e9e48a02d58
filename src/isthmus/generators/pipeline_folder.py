"""Reads a folder written by a diffusers pipeline's ``save_pretrained``: configurations, and parts one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isthmus.frozen import is_shapes_only
from isthmus.paths import checkpoint_path
from isthmus.published import on_meta, read_published


@contextmanager
def _weight_bars_hidden() -> Iterator[None]:
    """Hides transformers' progress bars, which would disturb those of a training run."""
    from transformers.utils import logging

    were_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            logging.enable_progress_bar()


class PipelineFolder:
    """Reads only json files until a part is requested.

    Args:
        path: the folder with ``model_index.json``.
        pipeline: the diffusers class that must have written it, such as ``StableDiffusionPipeline``.

    Raises:
        ValueError: the folder is missing, or it is another pipeline's.
    """

    def __init__(self, path: str | Path, pipeline: str) -> None:
        self.path = checkpoint_path(path)
        if not self.path.is_dir():
            raise ValueError(
                f"checkpoint {self.path}: no such folder; expected one written by {pipeline}.save_pretrained. "
                f"Correct the path, or download the checkpoint there."
            )
        parts = self.config("model_index.json")
        found = parts.get("_class_name")
        if found != pipeline:
            raise ValueError(
                f"checkpoint {self.path}: model_index.json names {found}; expected {pipeline}. "
                f"Give the folder of a {pipeline}, or choose the generator that serves {found}."
            )
        for part, named in parts.items():
            # Parts are read by the library's classes in any case; these were saved by a class of the checkpoint.
            if isinstance(named, list) and self._has_code(part, str(named[0])):
                raise ValueError(
                    f"checkpoint {self.path}: model_index.json: {part}: found {named}, the checkpoint's own code; "
                    "expected a class of diffusers or transformers. A checkpoint's code is never run here. Fix: take "
                    f"a {pipeline} whose parts are the library's."
                )

    def _has_code(self, part: str, library: str) -> bool:
        return any((folder / f"{library}.py").is_file() for folder in (self.path, self.path / part))

    def config(self, name: str) -> dict[str, Any]:
        """The json file ``name``, such as ``unet/config.json``.

        Raises:
            ValueError: it is missing, or isn't a json object.
        """
        file = self.path / name
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(
                f"checkpoint {self.path}: {name} is missing; save_pretrained writes it. Copy the folder anew."
            ) from None
        except (OSError, ValueError) as error:
            message = f"checkpoint {self.path}: {name} can't be read as json ({error}). Copy it anew."
            raise ValueError(message) from error
        if not isinstance(content, dict):
            raise ValueError(
                f"checkpoint {self.path}: {name} holds a {type(content).__name__}; expected an object. Copy it anew."
            )
        return content

    def value(self, name: str, field: str) -> Any:
        """One field of a json file.

        Raises:
            ValueError: the field is missing.
        """
        content = self.config(name)
        if field not in content:
            raise ValueError(
                f"checkpoint {self.path}: {name} has no '{field}'; it has {', '.join(sorted(content)) or 'nothing'}. "
                f"Copy the file anew, or check that its class is the pipeline's own."
            )
        return content[field]

    def read(self, part: str, kind: Any, **options: Any) -> Any:
        """The part of class ``kind`` in the subfolder ``part``, with its weights.

        Within :func:`isthmus.frozen.shapes_only` a model is built from its configuration instead.

        Raises:
            ValueError: its files are missing, truncated, or don't fit its configuration.
        """
        from safetensors import SafetensorError

        try:
            if is_shapes_only() and issubclass(kind, nn.Module):
                return _configured(self.path / part, kind, options)
            with _weight_bars_hidden():
                return read_published(kind, self.path / part, **options)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"checkpoint {self.path}: {part}/ can't be loaded as {kind.__name__} ({error}). "
                f"Copy that folder anew; it must hold config and weights as save_pretrained writes them."
            ) from error


def _configured(folder: Path, kind: Any, options: Mapping[str, Any]) -> nn.Module:
    """A model of diffusers or transformers from its ``config.json``, in the type that the options name."""
    made: nn.Module
    with on_meta():
        if hasattr(kind, "load_config"):
            made = kind.from_config(kind.load_config(folder, local_files_only=True))
        else:
            made = kind(read_published(kind.config_class, folder))
    # Not diffusers' own `to`, which warns about parts that some models keep in float32.
    return nn.Module.to(made, torch.get_default_device(), options.get("dtype"))
