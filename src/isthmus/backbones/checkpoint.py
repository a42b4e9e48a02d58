"""Reads an LLM's folder or ``.gguf`` file without its weights: configuration and tokenizer; finds damaged files."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from isthmus.backbones.chat_templates import TEMPLATES, read_template
from isthmus.published import read_published

STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Types by their names in safetensors."""
GGUF = ".gguf"
"""The ending of a file that holds configuration, tokenizer and weights of an LLM."""


def read_llm(kind: Any, checkpoint: Path, **options: Any) -> Any:
    """What ``kind`` reads of a folder, or of a ``.gguf`` file.

    Args:
        kind: a class of ``transformers``.
        checkpoint: the folder, or the file.
        options: of ``from_pretrained``.
    """
    if checkpoint.suffix != GGUF:
        return read_published(kind, checkpoint, **options)
    return read_published(kind, checkpoint.parent, gguf_file=checkpoint.name, **options)


def _check_gguf(file: Path) -> None:
    if not file.is_file():
        raise ValueError(f"backbone checkpoint {file}: found no such file; expected an LLM's .gguf. Fix: correct it.")
    if find_spec("gguf") is None:
        raise ValueError(
            f"backbone checkpoint {file}: found no package gguf, by which transformers reads it; expected it. Fix: "
            "pip install 'isthmus[gguf]'"
        )


def read_config(folder: Path) -> Any:
    """The text model's configuration.

    Raises:
        ValueError: the folder or its ``config.json`` is missing; the file is, or isn't GGUF, or needs the extra.
    """
    from transformers import AutoConfig

    if folder.suffix == GGUF:
        _check_gguf(folder)
        try:
            return read_llm(AutoConfig, folder).get_text_config()
        except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
            raise ValueError(
                f"backbone checkpoint {folder}: it can't be read as GGUF ({error}); expected a file of an LLM that "
                "transformers knows. Fix: download it again, or take the model's folder."
            ) from error
    if not (folder / "config.json").is_file():
        found = "no such folder" if not folder.is_dir() else "a folder without config.json"
        raise ValueError(
            f"backbone checkpoint {folder}: found {found}; expected an LLM saved with save_pretrained. "
            "Give its address on the hub, as hf://org/name, or download it into a folder."
        )
    return read_published(AutoConfig, folder).get_text_config()


def own_dtype(folder: Path, config: Any) -> torch.dtype:
    """The type that a checkpoint's weights were saved in: that of ``config.json``, or else of the first weights.

    A ``.gguf`` file's are unpacked to float32.

    Args:
        folder: the checkpoint.
        config: its configuration.
    """
    from safetensors import safe_open

    dtype = config.dtype
    if dtype is None:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                types = [weights.get_slice(name).get_dtype() for name in weights.keys()]
            dtype = next((STORED[kind] for kind in types if kind in STORED), None)
            break
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def read_tokenizer(folder: Path, vocabulary_size: int, chat_template: str | None = None) -> Any:
    """The tokenizer, checked for what training and chatting need.

    Args:
        folder: the checkpoint.
        vocabulary_size: rows of the LLM's embedding.
        chat_template: a name or a file, see :func:`read_template`; the tokenizer's own if None.

    Raises:
        ValueError: it isn't fast, has no chat template or no end token, or knows ids that the LLM has no rows for.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = read_llm(AutoTokenizer, folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"backbone checkpoint {folder}: its tokenizer can't be read: {error}") from error
    if not tokenizer.is_fast:
        raise ValueError(
            f"backbone checkpoint {folder}: found {type(tokenizer).__name__}, a slow tokenizer; expected a fast one, "
            "whose offsets "
            "tell which tokens are targets. Convert it to a tokenizer.json (convert_slow_tokenizer) and save it there."
        )
    if chat_template is not None:
        tokenizer.chat_template = read_template(chat_template)
    if not tokenizer.chat_template:
        raise ValueError(
            f"backbone checkpoint {folder}: found a tokenizer without a chat template; expected one, which lays out "
            "the turns. "
            "Add the model's template as chat_template.jinja to the folder, or name one by the backbone's "
            f"chat_template: {', '.join(TEMPLATES)}."
        )
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"backbone checkpoint {folder}: found a tokenizer without eos_token; expected one, which ends an answer. "
            "Name it in tokenizer_config.json."
        )
    highest = max(tokenizer.get_vocab().values())
    if highest >= vocabulary_size:
        raise ValueError(
            f"backbone checkpoint {folder}: found token id {highest} ('{tokenizer.convert_ids_to_tokens(highest)}') in "
            "the tokenizer; "
            f"expected ids below the LLM's vocab_size {vocabulary_size}, since media tags and signal tokens are "
            "numbered from there. "
            "Use the tokenizer that belongs to these weights."
        )
    return tokenizer


def read_ends(folder: Path, config: Any) -> set[int]:
    """Ids that end an answer, by the folder's generation configuration, or else by the model's.

    Raises:
        ValueError: the generation configuration can't be read.
    """
    from transformers import GenerationConfig

    listed = getattr(config, "eos_token_id", None)
    if (folder / "generation_config.json").is_file():
        try:
            listed = read_published(GenerationConfig, folder).eos_token_id
        except (OSError, ValueError) as error:
            raise ValueError(
                f"backbone checkpoint {folder}: its generation_config.json can't be read: {error}"
            ) from error
    return set() if listed is None else {listed} if isinstance(listed, int) else set(listed)


def damaged_weights(folder: Path) -> list[Path]:
    """The folder's safetensors whose header or length is wrong; the library's own error doesn't name them."""
    from safetensors import SafetensorError, safe_open

    damaged = []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError:
            damaged.append(file)
    return damaged


def unpacked() -> dict[str, Any]:
    """Options by which ``from_pretrained`` of a ``.gguf`` file gives plain layers, which adapters know, and no kernels.

    Versions of the library without this choice do so in any case.
    """
    import transformers

    settings = getattr(transformers, "GgufConfig", None)
    return {} if settings is None else {"quantization_config": settings(dequantize=True)}
