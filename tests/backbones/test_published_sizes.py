"""Each family at its published size, from a configuration alone: as many parameters as its authors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import CohereConfig, GlmConfig, LlamaConfig, OPTConfig, Qwen2Config, Qwen3Config, T5Config

from isthmus.backbones import CausalBackbone, EncoderDecoderBackbone
from isthmus.frozen import shapes_only

LLAMA = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
T5_11B = {"vocab_size": 32128, "d_model": 4096, "tie_word_embeddings": False, "decoder_start_token_id": 0}
# Its configuration, and what its paper or card says.
PUBLISHED: dict[str, tuple[Any, str]] = {
    "LLaMA-7B, LLaMA-2-7B, Vicuna-7B": (LlamaConfig(**LLAMA, num_attention_heads=32), "6.7 B"),
    "LLaMA-65B": (
        LlamaConfig(
            **(LLAMA | {"hidden_size": 8192, "intermediate_size": 22016, "num_hidden_layers": 80}),
            num_attention_heads=64,
        ),
        "65.3 B",  # arXiv 2302.13971, table 2: 65.2 B
    ),
    "OPT-6.7B": (
        OPTConfig(
            vocab_size=50272, hidden_size=4096, ffn_dim=16384, num_hidden_layers=32, num_attention_heads=32,
            word_embed_proj_dim=4096, max_position_embeddings=2048,
        ),
        "6.7 B",
    ),
    "Qwen2-7B": (
        Qwen2Config(
            vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
            num_key_value_heads=4, tie_word_embeddings=False,
        ),
        "7.6 B",
    ),
    "Qwen3-8B": (
        Qwen3Config(
            vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
            num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
        ),
        "8.2 B",
    ),
    "GLM-4-9B": (
        GlmConfig(
            vocab_size=151552, hidden_size=4096, intermediate_size=13696, num_hidden_layers=40, num_attention_heads=32,
            num_key_value_heads=2, head_dim=128, attention_bias=True,
        ),
        "9 B",
    ),
    # arXiv 2204.02311, table 1: the 8B has 8.63 B. Cohere's block is PaLM's, but for the head's fixed scale.
    "PaLM-8B's block": (
        CohereConfig(
            vocab_size=256000, hidden_size=4096, intermediate_size=16384, num_hidden_layers=32, num_attention_heads=16,
            num_key_value_heads=1, logit_scale=1.0,
        ),
        "8.63 B",
    ),
    "Flan-T5-XXL": (
        T5Config(**T5_11B, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu"),
        "11 B",
    ),
    # arXiv 2205.05131: 20 B. Its head, of 0.13 B, is tied here until weights are loaded.
    "UL2": (
        T5Config(**T5_11B, d_kv=256, d_ff=16384, num_layers=32, num_heads=16, feed_forward_proj="gated-silu"),
        "19.5 B",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str, tmp_path: Path, kit: Any) -> None:
    config, said = PUBLISHED[name]
    config.save_pretrained(tmp_path)
    kit["save_tokenizer"](tmp_path)
    kind = EncoderDecoderBackbone if config.is_encoder_decoder else CausalBackbone
    with shapes_only():
        backbone = kind(tmp_path, kit["signals"])
        backbone.materialize(meta=True)
    assert backbone.width == (config.d_model if config.is_encoder_decoder else config.hidden_size)
    frozen = {id(p): p for p in backbone.llm.parameters()}.values()
    assert all(parameter.is_meta for parameter in frozen)
    digits = len(said.split()[0].partition(".")[2])
    assert f"{sum(parameter.numel() for parameter in frozen) / 1e9:.{digits}f} B" == said
