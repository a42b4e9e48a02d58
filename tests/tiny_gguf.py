"""A tiny llama as llama.cpp's converter writes one: a `.gguf` file with its tokenizer and template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), "Ġa", "he", "in"]
MERGES = ["Ġ a", "h e", "i n"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tiny_llama() -> LlamaForCausalLM:
    """Random weights; rows are 32 wide, a block of the quantisation."""
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(3)
    llm = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in llm.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    return llm.eval()


def write_gguf(file: Path, kind: GGMLQuantizationType = GGMLQuantizationType.F32) -> LlamaForCausalLM:
    """Writes :func:`tiny_llama` and returns it. Matrices are stored as ``kind``."""
    llm = tiny_llama()
    config = llm.config
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for name, parameter in llm.model.state_dict().items():
        _add(writer, _renamed(name), _laid_out(name, parameter.numpy(), config), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return llm


def _renamed(name: str) -> str:
    if name.startswith("layers."):
        _, layer, part = name.removesuffix(".weight").split(".", 2)
        return f"blk.{layer}.{NAMES[part]}.weight"
    return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]


def _laid_out(name: str, weight: Any, config: LlamaConfig) -> Any:
    """llama.cpp rotates neighbouring features where transformers rotates halves: rows of Q and K change places."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            rows, width = weight.shape
            return weight.reshape(count, 2, rows // count // 2, width).swapaxes(1, 2).reshape(rows, width)
    return weight


def _add(writer: GGUFWriter, name: str, weight: Any, kind: GGMLQuantizationType) -> None:
    weight = np.ascontiguousarray(weight)
    if weight.ndim == 1 or kind == GGMLQuantizationType.F32:
        writer.add_tensor(name, weight)
    else:
        writer.add_tensor(name, quantize(weight, kind), raw_dtype=kind)
