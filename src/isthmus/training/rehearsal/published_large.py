"""Large published LLMs as folders of their configuration files alone: for plans of what no laptop holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isthmus.training.rehearsal.published_modern import CHATML
from isthmus.training.rehearsal.published_nextgpt import byte_tokenizer

LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def llama_70b(folder: Path) -> None:
    """``meta-llama/Llama-3.3-70B-Instruct``: The Llama 3 Herd of Models (arXiv 2407.21783), table 3."""
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=128_256,
        hidden_size=8192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)
    byte_tokenizer(folder, ("<|end_of_text|>", "<|begin_of_text|>", "<|eot_id|>"), LLAMA3)


def qwen_7b(folder: Path) -> None:
    """``Qwen/Qwen2.5-7B-Instruct``: Qwen2.5's technical report (arXiv 2412.15115), table 1."""
    from transformers import Qwen2Config

    Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        architectures=["Qwen2ForCausalLM"],
    ).save_pretrained(folder)
    byte_tokenizer(folder, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), CHATML)


LARGE: dict[str, Callable[[Path], None]] = {
    "Llama-3.3-70B-Instruct": llama_70b,
    "Qwen2.5-7B-Instruct": qwen_7b,
}
"""Folder under ``checkpoints/`` -> what writes it."""
