"""Tiny random LLMs of several families, saved as real folders, and batches for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    CohereConfig,
    Gemma2Config,
    GlmConfig,
    LlamaConfig,
    MistralConfig,
    MT5Config,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)

from isthmus.backbones import CausalBackbone, EncoderDecoderBackbone, LoraSettings
from isthmus.backbones.pretrained import PretrainedLanguageModel
from isthmus.types import IGNORED, Batch, MediaBatch, Modality, SignalBatch
from isthmus.vocabulary import MEDIA_POSITION

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "|user|", "|assistant|", *(f"w{index}" for index in range(34))]
SIGNALS = {"image": 2, "video": 3, "audio": 2, "points": 1}
TEMPLATE = (
    "{% for message in messages %}|{{ message.role }}| {{ message.content }} "
    "{% if message.role == 'assistant' %}</s> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}|assistant| {% endif %}"
)
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GATED: dict[str, Any] = SIZES | {"intermediate_size": 24, "num_key_value_heads": 1}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**GATED),
    "qwen2": lambda: Qwen2Config(**GATED),
    "qwen3": lambda: Qwen3Config(**GATED, head_dim=8),
    "opt": lambda: OPTConfig(**SIZES, ffn_dim=24, word_embed_proj_dim=16, dropout=0.1),
    "opt-350m": lambda: OPTConfig(**SIZES, ffn_dim=24, word_embed_proj_dim=12, do_layer_norm_before=False),
    "glm": lambda: GlmConfig(**GATED, head_dim=8),
    "cohere": lambda: CohereConfig(**GATED, logit_scale=0.25),
    "mistral": lambda: MistralConfig(**GATED, sliding_window=5),
    "gemma2": lambda: Gemma2Config(**GATED, head_dim=8, final_logit_softcapping=0.2, query_pre_attn_scalar=8),
}
READER: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
FAMILIES |= {
    "t5": lambda: T5Config(**READER),
    "flan-t5": lambda: T5Config(**READER, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mt5": lambda: MT5Config(**READER, feed_forward_proj="gated-gelu"),
}


def save_tokenizer(
    folder: Path, template: str | None = TEMPLATE, words: list[str] = WORDS, end: str | None = "</s>"
) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token=end, unk_token="<unk>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> the folder of a tiny random LLM, whose logits are sharp enough that greedy choices aren't ties."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            torch.manual_seed(1)
            folder = tmp_path_factory.mktemp(family)
            config = FAMILIES[family]()
            library = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            llm: Any = library.from_config(config)
            if family == "flan-t5":  # published with a head of its own; the library ties it until it is loaded
                llm.lm_head.weight = torch.nn.Parameter(torch.empty_like(llm.lm_head.weight))
            with torch.no_grad():
                for name, parameter in llm.named_parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(0, 0.35)
                    elif "norm" not in name:
                        parameter.normal_(0, 0.1)
            llm.save_pretrained(folder)
            save_tokenizer(folder)
            made[family] = folder
        return made[family]

    return make


Build = Callable[..., PretrainedLanguageModel]


@pytest.fixture
def build(llm_folder: Callable[[str], Path]) -> Build:
    """A materialised backbone of a family; keyword arguments go to its constructor."""

    def make(family: str = "llama", seed: int = 0, **settings: Any) -> PretrainedLanguageModel:
        folder = llm_folder(family)  # written on first use, and that draws too
        torch.manual_seed(seed)
        kind = EncoderDecoderBackbone if FAMILIES[family]().is_encoder_decoder else CausalBackbone
        backbone = kind(folder, SIGNALS, **settings)
        backbone.materialize()
        return backbone

    return make


def lora(dropout: float = 0.0) -> LoraSettings:
    return LoraSettings(r=3, lora_alpha=6, lora_dropout=dropout, target_modules="all-linear")


def awaken(backbone: PretrainedLanguageModel) -> PretrainedLanguageModel:
    """LoRA's second factor starts at zero: give it weights, so that the adapters do something."""
    with torch.no_grad():
        for parameter in backbone.parts()["lora"]:
            parameter.normal_(0, 0.3)
    return backbone


def text_batch(lengths: list[int], seed: int = 0) -> Batch:
    """Right-padded rows of words; the second half of each is labelled."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    ids = torch.randint(6, len(WORDS), (len(lengths), longest), generator=generator) * mask
    is_target = mask & (torch.arange(longest) >= torch.tensor(lengths)[:, None] // 2) & (torch.arange(longest) > 0)
    return Batch(ids, mask, ids.where(is_target, IGNORED))


def conversation_batch(
    backbone: PretrainedLanguageModel, text: int = 5
) -> tuple[Batch, dict[Modality, tuple[torch.Tensor, torch.Tensor]]]:
    """Two rows: image and audio in, an image run out; then an image in, two audio runs out. P is random."""
    vocabulary, width = backbone.vocabulary, backbone.width
    generator = torch.Generator().manual_seed(3)

    def words(count: int) -> list[int]:
        return torch.randint(6, len(WORDS), (count,), generator=generator).tolist()

    def medium(modality: Modality, length: int) -> list[int]:
        begin, end = vocabulary.tags(modality)
        return [begin, *[MEDIA_POSITION] * length, end]

    image, audio = Modality.IMAGE, Modality.AUDIO
    image_run, audio_run = list(vocabulary.signal_ids(image)), list(vocabulary.signal_ids(audio))
    first = [*words(text), *medium(image, 3), *words(2), *medium(audio, 2), *words(2), *image_run, *words(2), 2]
    second = [*words(text + 1), *medium(image, 2), *words(1), *audio_run, *words(1), *audio_run, 2]
    rows = [first, second]
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
    labels = torch.full_like(ids, IGNORED)
    for index, row in enumerate(rows):
        answer = text + (11 if index == 0 else 6)
        for place in range(answer, len(row)):
            if row[place] < vocabulary.base_size or row[place] in vocabulary.starts():
                labels[index, place] = row[place]
    media = {
        image: MediaBatch({}, torch.tensor([0, 1]), torch.tensor([text + 1, text + 2]), torch.tensor([3, 2])),
        audio: MediaBatch({}, torch.tensor([0]), torch.tensor([text + 8]), torch.tensor([2])),
    }
    signals = {
        image: SignalBatch(
            torch.tensor([0]), torch.tensor([first.index(image_run[0])]), ["a"], {}, torch.tensor([]), torch.tensor([1])
        ),
        audio: SignalBatch(
            torch.tensor([1, 1]),
            torch.tensor([place for place, token in enumerate(second) if token == audio_run[0]]),
            ["b", "c"],
            {},
            torch.tensor([]),
            torch.tensor([1, 2]),
        ),
    }
    projected = {
        image: (torch.randn(2, 3, width, generator=generator), torch.tensor([[True] * 3, [True, True, False]])),
        audio: (torch.randn(1, 3, width, generator=generator), torch.tensor([[True, False, True]])),
    }
    return Batch(ids, mask, labels, media, signals), projected


@pytest.fixture
def kit() -> Mapping[str, Any]:
    """The helpers above: test modules in importlib mode can't import a conftest."""
    return {
        "text_batch": text_batch,
        "conversation_batch": conversation_batch,
        "lora": lora,
        "awaken": awaken,
        "save_tokenizer": save_tokenizer,
        "words": WORDS,
        "signals": SIGNALS,
        "families": FAMILIES,
    }
