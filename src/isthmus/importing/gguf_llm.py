"""A llama of a ``.gguf`` file -> a folder as ``save_pretrained`` writes it, de-quantised to float32."""

from __future__ import annotations

from pathlib import Path

import torch

from isthmus.published import read_published

OF_THE_FILE = ("quantization_config", "architectures", "_name_or_path", "_model_name_or_path")
"""Fields of a configuration that speak of the file that it was read from."""


def write_llama(file: Path, out: Path) -> None:
    """Writes the folder ``out``: model and tokenizer. Needs the extra ``gguf``.

    Args:
        file: a ``.gguf`` file of a llama with its tokenizer.
        out: the folder to write into.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = read_published(AutoTokenizer, file.parent, gguf_file=file.name)
    read = read_published(AutoModelForCausalLM, file.parent, gguf_file=file.name, dtype=torch.float32)
    settings = {name: value for name, value in read.config.to_dict().items() if name not in OF_THE_FILE}
    model = LlamaForCausalLM(LlamaConfig(**settings | {"dtype": "float32"}))
    model.load_state_dict(read.state_dict())
    assert model.generation_config is not None
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
