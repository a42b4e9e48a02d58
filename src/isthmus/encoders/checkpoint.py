"""Encoders' checkpoints: sizes from ``config.json``, weights read without running code, keys and shapes checked.

A checkpoint is a weights file in the published form and size, or a folder of ``config.json`` and one weights file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from isthmus.frozen import is_shapes_only
from isthmus.hub.selection import read_files

SUFFIXES = (".safetensors", ".pth", ".pt")
NESTINGS = ("state_dict", "model")
"""Keys under which published files keep their tensors if they hold other things too."""
SHOWN = 3
"""How many keys of a kind an error lists."""

Config = TypeVar("Config")


def read_config(checkpoint: Path, section: str, default: Config) -> Config:
    """A checkpoint's sizes: ``default`` for a file; for a folder, ``section`` of its ``config.json`` overrides them.

    Raises:
        ValueError: the folder is missing or empty, ``config.json`` isn't JSON, or it names an unknown field.
    """
    if checkpoint.suffix in SUFFIXES:
        return default
    if not checkpoint.is_dir():
        raise ValueError(
            f"{checkpoint}: no such checkpoint; expected a {', '.join(SUFFIXES)} file, or a folder that holds one. "
            "Fix: correct the path, or fetch the checkpoint."
        )
    file = checkpoint / "config.json"
    if not file.is_file():
        return default
    try:
        fields = dict(json.loads(file.read_text(encoding="utf-8"))[section])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: expected JSON with a section '{section}' of fields ({error!r})") from error
    assert dataclasses.is_dataclass(default) and not isinstance(default, type)
    known: dict[str, Any] = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    unknown = sorted(fields.keys() - known.keys())
    if unknown:
        raise ValueError(f"{file}: unknown {section} fields {', '.join(unknown)}; known: {', '.join(known)}")
    values = {name: _as_typed(file, name, value, type(known[name])) for name, value in fields.items()}
    try:
        return dataclasses.replace(default, **values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _as_typed(file: Path, name: str, value: Any, kind: type) -> Any:
    """A JSON value converted to its field's type: lists become tuples, and integers floats."""
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{file}: {name}: found {value!r}, a {type(value).__name__}; expected {kind.__name__}")
    return value


def weights_file(checkpoint: Path) -> Path:
    """The checkpoint's weights file; within :func:`isthmus.frozen.shapes_only` none is looked for.

    Raises:
        ValueError: there is none, or a folder has several.
    """
    if checkpoint.is_file() or is_shapes_only():
        return checkpoint
    files = read_files(checkpoint) if checkpoint.is_dir() else []
    found = [file for file in files if file.suffix in SUFFIXES and file.parent == checkpoint]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(
            f"{checkpoint}: weights files found: {names}; expected one ({', '.join(SUFFIXES)}): "
            "download it, or correct the path"
        )
    return found[0]


def read_stored(file: Path) -> Any:
    """The content of a weights file, on the CPU, as it was saved. Newer torch files are memory-mapped, not read.

    Raises:
        ValueError: the file can't be read as weights.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        # ULIP's training script saved its command line beside the weights: only tensors and this class are allowed.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{file}: can't be read as weights ({first_line}); download it again, or convert it to safetensors"
        ) from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU, without outer keys (:data:`NESTINGS`) and without DDP's prefix ``module.``.

    Within :func:`isthmus.frozen.shapes_only` the result is empty.

    Raises:
        ValueError: the file can't be read as weights.
    """
    if is_shapes_only():
        return {}
    stored = read_stored(file)
    for nesting in NESTINGS:
        if isinstance(stored, Mapping) and isinstance(stored.get(nesting), Mapping):
            stored = stored[nesting]
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise ValueError(
            f"{file}: expected a state dict of tensors, found {type(stored).__name__}; "
            "this looks like a checkpoint of another model"
        )
    return {key.removeprefix("module."): value for key, value in stored.items()}


def _is_zip(file: Path) -> bool:
    """Whether the file has torch's present format, which can be memory-mapped."""
    with file.open("rb") as stream:
        return stream.read(2) == b"PK"


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], file: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Loads weights, as ``dtype``, into a model that may be on the meta device; every key and shape must match.

    Within :func:`isthmus.frozen.shapes_only` the model is only converted to ``dtype``.

    Raises:
        ValueError: keys are missing or unexpected, or shapes differ.
    """
    if is_shapes_only():
        model.to(dtype)
        return
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    differing = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    if listed := faults_listed(missing=missing, unexpected=unexpected, differing=differing):
        same_keys = not missing and not unexpected
        fix = "correct the sizes in config.json" if same_keys else "this looks like a checkpoint of another model"
        raise ValueError(f"{file}: {len(weights)} tensors found, {len(expected)} expected; {listed}. {fix}")
    plain = {key: value.to(dtype) if value.is_floating_point() else value for key, value in weights.items()}
    model.load_state_dict(plain, assign=True, strict=True)
    model.to(dtype)  # for computed buffers, which aren't in the file


def faults_listed(**faults: Sequence[str]) -> str:
    """The number of keys with each fault, and the first few of them; nothing where there are none."""
    return "; ".join(f"{len(keys)} {fault}: {', '.join(keys[:SHOWN])}" for fault, keys in faults.items() if keys)


def save_checkpoint(folder: Path, section: str, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Writes ``config.json`` and ``model.safetensors``, which :func:`read_config` and :func:`read_weights` read."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({section: dataclasses.asdict(config)}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, folder / "model.safetensors")
