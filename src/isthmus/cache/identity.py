"""A digest of all that a frozen expert's output depends on: its weights, its other files and its settings."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isthmus.cache.fingerprint import WEIGHTS, fingerprint
from isthmus.frozen import FrozenExpert
from isthmus.hub.selection import read_files

VERSION = 1
"""To be increased when an expert's preprocessing or arithmetic changes, so that earlier cache entries aren't found."""

LARGEST = 1 << 26
"""The largest file besides the weights, in bytes, that is included: tokenizers and configurations are far smaller."""

OPAQUE = "opaque"
"""Stands for tokenizers and similar objects: they are built from the checkpoint's files, some only after loading."""


def identity(part: nn.Module, without: Collection[str] = ()) -> str:
    """A digest that changes with the expert's class, weights, tokenizer and configuration files, and settings.

    Settings are its public attributes, and those of the experts that it contains.

    Args:
        part: the expert, or an LLM.
        without: names of settings that don't affect the cached values.

    Raises:
        ValueError: a checkpoint without weights.
    """
    return sha256(json.dumps([VERSION, _described(part, without)], sort_keys=True).encode()).hexdigest()[:32]


def _described(part: nn.Module, without: Collection[str] = ()) -> Any:
    settings = {name: value for name, value in vars(part).items() if not name.startswith("_")}
    inner = {name: module for name, module in part._modules.items() if isinstance(module, FrozenExpert)}
    for name in ("training", "is_loaded", *without):
        settings.pop(name, None)
    return [f"{type(part).__module__.partition('.')[0]}.{type(part).__qualname__}", _plain(settings | inner)]


def _plain(value: Any) -> Any:
    """A value in JSON's types; :data:`OPAQUE` if it is neither plain nor a file nor an expert."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, Path):
        return _files(value) if value.exists() else str(value)
    if isinstance(value, FrozenExpert):
        return _described(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_plain(each), sort_keys=True) for each in value)
    if isinstance(value, dict):
        return {str(key): plain for key, each in value.items() if (plain := _plain(each)) != OPAQUE}
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, {field.name: _plain(getattr(value, field.name)) for field in fields(value)}]
    return OPAQUE


def _files(path: Path) -> list[str]:
    """The fingerprint of the weights there, and a digest of every smaller file beside them."""
    digest = sha256()
    others = read_files(path) if path.is_dir() else []
    for file in others:
        if file.suffix not in WEIGHTS and file.stat().st_size <= LARGEST:
            digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
            digest.update(file.read_bytes())
    return [fingerprint(path), digest.hexdigest()]
