"""Reads the Q-Former from a folder of BLIP-2, without the tensors of its LLM."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

BRIDGE = ("qformer.", "query_tokens", "language_projection.")
"""Keys of the modules between BLIP-2's vision tower and its LLM."""
TEXT_BRANCH = re.compile(r"qformer\.(embeddings\.|encoder\.layer\.\d+\.(intermediate|output)\.)")
"""The Q-Former's layers for text, which retrieval checkpoints hold and which queries don't pass."""
SHOWN = 3
"""How many keys of a kind an error lists."""


def load_blip2(module: nn.Module, folder: Path) -> None:
    """Copies a folder's ``qformer.*``, ``query_tokens`` and, if its shape fits, ``language_projection.*``.

    Args:
        module: has parameters of these names.
        folder: saved with ``save_pretrained``: ``model.safetensors``, or shards and their index.

    Raises:
        ValueError: the folder has no safetensors, they are damaged, or keys or shapes differ; then nothing is copied.
    """
    wanted = module.state_dict()
    found = _read(folder)
    projection = {key: tensor for key, tensor in found.items() if key.startswith(BRIDGE[2])}
    fits = bool(projection) and all(key in wanted and projection[key].shape == wanted[key].shape for key in projection)
    if not fits:
        log.info("%s: its language_projection isn't for an LLM of this width; it is initialised at random", folder)
        found = {key: tensor for key, tensor in found.items() if key not in projection}
        wanted = {key: tensor for key, tensor in wanted.items() if not key.startswith(BRIDGE[2])}
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    differing = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in found and found[key].shape != tensor.shape
    ]
    faults = {"missing": missing, "unknown": unknown, "differing": differing}
    if any(faults.values()):
        listed = "; ".join(f"{len(keys)} {kind}: {', '.join(keys[:SHOWN])}" for kind, keys in faults.items() if keys)
        raise ValueError(
            f"{folder}: found a Q-Former that differs from the one configured ({listed}); expected BLIP-2's weights "
            "for these sizes. Give the projector the sizes under qformer_config in its config.json (`queries` is its "
            "num_query_tokens), and an encoder of its encoder_hidden_size"
        )
    with torch.no_grad():
        for key, tensor in found.items():
            wanted[key].copy_(tensor)


def _read(folder: Path) -> dict[str, Tensor]:
    """The bridge's tensors by key."""
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Tensor] = {}
    for file in _files(folder):
        try:
            with safe_open(file, framework="pt") as stored:
                for key in _of_the_bridge(stored.keys()):
                    tensors[key] = stored.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: can't be read as safetensors ({error}); download it again") from error
    return tensors


def _files(folder: Path) -> list[Path]:
    """The files that hold the bridge."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            places: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{index}: expected JSON with a 'weight_map' ({error!r}); download it again") from error
        return sorted({folder / places[key] for key in _of_the_bridge(places)})
    file = folder / "model.safetensors"
    if not file.is_file():
        found = "a folder without model.safetensors" if folder.is_dir() else "no such folder"
        raise ValueError(
            f"{folder}: found {found}; expected BLIP-2 as safetensors. Download one (`hf download "
            "Salesforce/blip2-opt-2.7b --local-dir FOLDER`) and give that folder"
        )
    return [file]


def _of_the_bridge(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key.startswith(BRIDGE) and not TEXT_BRANCH.match(key)]
