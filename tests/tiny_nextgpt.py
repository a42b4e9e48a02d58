"""What NExT-GPT's first release would save, at a few thousand parameters: made by rule, under its own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tiny_world import IMAGEBIND
from torch import Tensor, nn

CONDITIONS = {"image": (8, 16), "video": (8, 16), "audio": (1, 16)}
"""(C, K) of the tiny generators."""
VOCABULARY, WIDTH = 259, 16
"""Rows and E of the tiny LLM."""
SIGNALS = {"image": 4, "video": 24, "audio": 8}
PREFIXES = {"image": "gen_text_hidden_fcs", "video": "gen_text_hidden_fcs_video", "audio": "gen_text_hidden_fcs_audio"}


def write_tokenizer(folder: Path, size: int) -> None:
    """A fast tokenizer over words ``w4`` and so on, without a chat template, as Vicuna's folder is."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "<pad>", *(f"w{index}" for index in range(4, size))]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def delta(
    vocabulary: int,
    width: int,
    encoder_width: int,
    layers: int,
    conditions: Mapping[str, tuple[int, int]],
    rank: int = 4,
    inner: int = 16,
    seed: int = 5,
) -> dict[str, Tensor]:
    """``pytorch_model.pt`` after the release's third stage, of random weights.

    Args:
        vocabulary: rows of Vicuna's embedding.
        width: E.
        encoder_width: D.
        layers: of the LLM, whose q, k, v and o are as wide as it is.
        conditions: by modality (C, K).
        rank: of LoRA.
        inner: width of the output projectors.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    rows = vocabulary + 2 + sum(SIGNALS.values())
    llm = "llama_model.base_model.model."
    state = {
        "llama_proj.weight": drawn(width, encoder_width),
        "llama_proj.bias": drawn(width),
        f"{llm}model.embed_tokens.weight": drawn(rows, width),
        f"{llm}lm_head.weight": drawn(rows, width),
    }
    for layer in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            own = f"{llm}model.layers.{layer}.self_attn.{name}"
            state |= {f"{own}.lora_A.default.weight": drawn(rank, width)}
            state |= {f"{own}.lora_B.default.weight": drawn(width, rank)}
    for modality, (length, wide) in conditions.items():
        prefix = f"{PREFIXES[modality]}.0."
        tower = nn.Transformer(inner, 4, 4, 4, 4 * inner, 0.0, batch_first=True, norm_first=True)
        state |= {
            f"{prefix}query_embs": drawn(1, length, inner),
            f"{prefix}fc.weight": drawn(inner, width),
            f"{prefix}fc.bias": drawn(inner),
            f"{prefix}model.weight": drawn(wide, inner),
            f"{prefix}model.bias": drawn(wide),
            **{f"{prefix}tfm.{name}": drawn(*own.shape) for name, own in tower.state_dict().items()},
        }
    return state


def write_release(experts: Mapping[str, Path], file: Path) -> None:
    """``pytorch_model.pt`` beside tiny experts, whose LLM gets as many keys and values as queries, as Vicuna has."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.save(delta(VOCABULARY, WIDTH, IMAGEBIND.out_embed_dim, 2, CONDITIONS), file)
    config = AutoConfig.from_pretrained(experts["llama"])
    config.num_key_value_heads = config.num_attention_heads
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(experts["llama"])
