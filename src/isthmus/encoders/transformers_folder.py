"""Reads an encoder's folder in the format of transformers' ``save_pretrained``: settings, preprocessing, weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from isthmus.encoders.checkpoint import faults_listed
from isthmus.frozen import is_shapes_only
from isthmus.published import on_meta, read_published

_NUMBER = re.compile(r"\d+")


def read_settings(folder: Path, config: Any, extractor: Any, example: str) -> tuple[Any, Any]:
    """The model's configuration and its feature extractor, without weights.

    Args:
        folder: written by ``save_pretrained`` of the model and of its feature extractor, or downloaded.
        config: the configuration's class.
        extractor: the feature extractor's class.
        example: a published model that fits, for messages.

    Raises:
        ValueError: a file is missing or unreadable, or is another model's.
    """
    fix = f"download one (`hf download {example} --local-dir FOLDER`) and give that folder"
    if not (folder / "config.json").is_file():
        found = "a folder without config.json" if folder.is_dir() else "no such folder"
        raise ValueError(f"{folder}: found {found}; expected a checkpoint in the format of {example}: {fix}")
    try:
        sizes: dict[str, Any] = config.get_config_dict(folder, local_files_only=True)[0]
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: config.json can't be read ({error}): {fix}") from error
    _require(folder, "config.json: model_type", sizes.get("model_type"), config.model_type, fix)
    try:
        recipe: dict[str, Any] = extractor.get_feature_extractor_dict(folder, local_files_only=True)[0]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: found no preprocessor_config.json that can be read ({error}); expected that of "
            f"{extractor.__name__}: {fix}"
        ) from error
    kind = recipe.get("feature_extractor_type", extractor.__name__)  # older files lack it
    _require(folder, "preprocessor_config.json: feature_extractor_type", kind, extractor.__name__, fix)
    return config.from_dict(sizes), extractor.from_dict(recipe)


def _require(folder: Path, field: str, found: Any, expected: str, fix: str) -> None:
    if found != expected:
        raise ValueError(f"{folder}: {field}: found {found!r}; expected {expected!r}: {fix}")


def read_model(
    folder: Path,
    kind: Any,
    key_mapping: Mapping[str, str] | None = None,
    unused: Sequence[str] | None = (),
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Any:
    """The model of class ``kind`` with all of its weights.

    Within :func:`isthmus.frozen.shapes_only` it is built from its configuration instead.

    Args:
        folder: that of :func:`read_settings`.
        kind: the model's class.
        key_mapping: patterns in the stored keys, and their replacements in ``kind``'s keys.
        unused: prefixes of stored keys that ``kind`` may ignore: heads, a decoder. None: any keys except those that
            look like ``kind``'s own, such as those of a further layer.
        dtype: of the weights.
        options: further arguments of ``kind``; ``config`` replaces the folder's.

    Raises:
        ValueError: weights are missing, unreadable or of other shapes, or there are more than ``kind`` has.
    """
    from safetensors import SafetensorError

    if is_shapes_only():
        config = options.pop("config", None) or read_published(kind.config_class, folder)
        with on_meta():
            made: Any = kind(config, **options)
        return made.to(torch.get_default_device(), dtype)  # .to: some tensors ignore the default device
    try:
        with _reports_hidden():
            loaded: Any = read_published(
                kind,
                folder,
                dtype=dtype,
                output_loading_info=True,
                key_mapping=None if key_mapping is None else dict(key_mapping),
                **options,
            )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: its weights can't be read as {kind.__name__} ({error}): download the folder again"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])  # transformers would go on with random weights
    leftover = sorted(report["unexpected_keys"])
    if unused is None:
        forms = {_NUMBER.sub("#", key) for key in model.state_dict()}
        prefix = f"{model.base_model_prefix}."
        unexpected = [key for key in leftover if _NUMBER.sub("#", key.removeprefix(prefix)) in forms]
    else:
        unexpected = [key for key in leftover if not key.startswith(tuple(unused))]
    if listed := faults_listed(missing=missing, unexpected=unexpected):
        raise ValueError(
            f"{folder}: its weights aren't those that its config.json speaks of; {listed}. Download the folder again, "
            "or correct config.json"
        )
    return model


@contextmanager
def _reports_hidden() -> Iterator[None]:
    """Silences transformers' report of unused keys, which are checked above, and its progress bars."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
