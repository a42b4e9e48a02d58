"""BEATs' sizes, which a checkpoint stores beside its weights (Chen et al., arXiv 2212.09058)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.encoders.checkpoint import SUFFIXES, read_config, read_stored, weights_file

BINS = 128
"""The number of mel filters. It is given in BEATs' published code, not in its files."""
PATCH_SIZES = (16, 32, 64, 128)
"""Sizes at which the mask of frames reduces to whole patches; all published checkpoints have 16."""

FIXED: dict[str, Any] = {
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "deep_norm": True,
}
"""Settings of every published checkpoint, which the model here assumes."""


@dataclass(frozen=True)
class BeatsConfig:
    """Sizes, named as in the checkpoint's ``cfg`` (defaults: the published BEATs iter3+, 90M parameters).

    Attributes:
        encoder_embed_dim: D, the transformer's width; embed_dim: of the patch embedding in front of it.
        input_patch_size: mel bins and frames a side of a patch.
        conv_pos, conv_pos_groups: kernel and groups of the convolution that encodes positions.
        num_buckets, max_distance: of relative positions, in patches; larger distances share the last bucket.
        finetuned_model: whether there is a head for ``predictor_class`` sound classes.

    Raises:
        ValueError: a size is below one or doesn't fit another; the message names the fields.
    """

    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    embed_dim: int = 512
    input_patch_size: int = 16
    conv_bias: bool = False
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    finetuned_model: bool = False
    predictor_class: int = 527

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 1:
                raise ValueError(f"{field.name}: found {value}; expected at least 1")
        for name in ("encoder_attention_heads", "conv_pos_groups"):
            if self.encoder_embed_dim % getattr(self, name):
                raise ValueError(
                    f"encoder_embed_dim {self.encoder_embed_dim}: expected a multiple of {name}, {getattr(self, name)}"
                )
        if self.input_patch_size not in PATCH_SIZES:
            raise ValueError(
                f"input_patch_size: found {self.input_patch_size}; expected one of {', '.join(map(str, PATCH_SIZES))}"
            )
        if self.num_buckets % 4 or self.max_distance <= self.num_buckets // 4:
            raise ValueError(
                f"num_buckets {self.num_buckets}, max_distance {self.max_distance}: expected a multiple of 4, and a "
                "distance above a quarter of it"
            )

    @property
    def patches_per_row(self) -> int:
        """The number of patches along frequency, one row of the time-major grid."""
        return BINS // self.input_patch_size


def read_beats_config(checkpoint: Path) -> BeatsConfig:
    """Sizes from a folder's ``config.json`` (a section ``beats``), else from the ``cfg`` beside the weights.

    Files that don't exist yet, and files of weights alone, are taken to have the published sizes.

    Raises:
        ValueError: the file isn't weights, or its ``cfg`` lacks a size or is of another architecture.
    """
    config = read_config(checkpoint, "beats", BeatsConfig())
    if (checkpoint / "config.json").is_file() or (checkpoint.suffix in SUFFIXES and not checkpoint.exists()):
        return config
    file = weights_file(checkpoint)
    if file.suffix == ".safetensors":
        return config
    stored = read_stored(file)
    if not isinstance(stored, Mapping) or "model" not in stored:
        raise ValueError(
            f"{file}: found {_described(stored)}; expected BEATs' 'cfg' and 'model': "
            "this looks like a checkpoint of another model"
        )
    return _from_cfg(stored.get("cfg"), file)


def _described(stored: Any) -> str:
    if not isinstance(stored, Mapping):
        return f"a {type(stored).__name__}"
    return ", ".join(f"'{key}'" for key in list(stored)[:3]) or "an empty dictionary"


def _from_cfg(cfg: Any, file: Path) -> BeatsConfig:
    if not isinstance(cfg, Mapping):
        raise ValueError(f"{file}: cfg: found {type(cfg).__name__}; expected a dictionary of sizes: download it again")
    for name, expected in FIXED.items():
        if cfg.get(name) != expected:
            raise ValueError(
                f"{file}: cfg.{name}: found {cfg.get(name)!r}; expected {expected!r}, as in BEATs' published "
                "checkpoints: this looks like a checkpoint of another model"
            )
    values: dict[str, Any] = {}
    for field in dataclasses.fields(BeatsConfig):
        if field.name == "predictor_class" and not cfg.get("finetuned_model"):
            continue  # only fine-tuned files have it
        value = cfg.get(field.name)
        if type(value) is not type(field.default):
            raise ValueError(
                f"{file}: cfg.{field.name}: found {value!r}; expected {type(field.default).__name__}: "
                "this looks like a checkpoint of another model"
            )
        values[field.name] = value
    try:
        return BeatsConfig(**values)
    except ValueError as error:
        raise ValueError(f"{file}: cfg.{error}") from error
