"""The 7B system in miniature: the same classes, and the same shares of the work for encoder, LLM, head and projector.

A width of 512 stands for Vicuna's 4096 (of 128 in tests), and everything else is scaled so that a token of the LLM and
a medium of the encoder keep their relation (:mod:`benchmarks.proportions` counts both). Weights are random: how long a
step takes doesn't depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.savings import ReadyFeatures, Savings, SavingsBackbone
from isthmus.backbones import LoraSettings
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.generators.audio.audioldm import AudioLDM
from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.generators.video.zeroscope import ZeroScope
from isthmus.input_projectors import Linear
from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
from isthmus.output_projectors import TinyTransformer
from isthmus.types import Modality

SIDE = 64
"""Pixels a side of pictures and frames."""


@dataclass(frozen=True)
class Size:
    """One miniature.

    Attributes:
        width: of the LLM.
        layers: of the LLM.
        heads: of the LLM.
        words: that the tokenizer knows besides those of the template: they make the head as large as it should be.
        imagebind: the encoder.
        projector_width: of the output projectors.
        projector_heads: of the output projectors.
    """

    width: int
    layers: int
    heads: int
    words: int
    imagebind: ImageBindConfig
    projector_width: int
    projector_heads: int


NARROW = Size(
    width=128,
    layers=10,
    heads=4,
    words=280,
    imagebind=ImageBindConfig(
        modalities=("vision", "audio"),
        out_embed_dim=32,
        image_size=SIDE,
        vision_patch_size=16,
        vision_embed_dim=204,
        vision_num_blocks=6,
        vision_num_heads=4,
        audio_num_mel_bins=36,
        audio_target_len=36,
        audio_embed_dim=116,
        audio_num_blocks=4,
        audio_num_heads=4,
        audio_drop_path=0.0,
    ),
    projector_width=16,
    projector_heads=4,
)
"""For counting work in tests. Its operators are so small that starting them takes most of the time."""
WIDE = Size(
    width=512,
    layers=10,
    heads=8,
    words=1225,
    imagebind=ImageBindConfig(
        modalities=("vision", "audio"),
        out_embed_dim=128,
        image_size=SIDE,
        vision_patch_size=8,
        vision_embed_dim=416,
        vision_num_blocks=6,
        vision_num_heads=8,
        audio_num_mel_bins=66,
        audio_target_len=66,
        audio_embed_dim=236,
        audio_num_blocks=4,
        audio_num_heads=4,
        audio_drop_path=0.0,
    ),
    projector_width=64,
    projector_heads=4,
)
"""For measuring time: wide enough that products take most of it."""
POCKET = Path("checkpoints/pocket")
MAKES = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '# Human : ' if message.role == 'user' else ' . # Assist ant : ' }}{{ message.content }}"
    "{{ ' . ' + eos_token if message.role == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' . # Assist ant : ' }}{% endif %}"
)
"""As many tokens as NExT-GPT v1's prompt has."""


def write_llm(
    folder: Path,
    width: int = 128,
    layers: int = 10,
    words: int = NARROW.words,
    heads: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Path:
    """A random Llama of Vicuna's shape, over words, drawn on ``device``; the folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    pieces = ["<pad>", "<s>", "</s>", "<unk>", "#", "Human", ":", ".", "Assist", "ant"]
    pieces += [f"w{number}" for number in range(words)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(pieces),
        hidden_size=width,
        intermediate_size=width * 11008 // 4096,
        num_hidden_layers=layers,
        num_attention_heads=heads or width // 32,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False).save_pretrained(
            folder, max_shard_size="4GB"
        )
    return folder


def write_encoder(folder: Path, config: ImageBindConfig) -> Path:
    """A random ImageBind; the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        save_checkpoint(folder, "imagebind", config, ImageBindModel(config).state_dict())
    return folder


def write_experts(folder: Path, size: Size = NARROW) -> dict[str, Path]:
    """Expert -> its folder. Generators, of which a step needs the text conditioners alone, are the embedded ones."""
    llama = write_llm(folder / "llama", size.width, size.layers, size.words, size.heads)
    return {"llama": llama, "imagebind": write_encoder(folder / "imagebind", size.imagebind)}


def build(
    paths: Mapping[str, Path], savings: Savings | None = None, lora: bool = False, size: Size = NARROW, **backbone: Any
) -> AnyToAny:
    """The miniature, built: NExT-GPT v1's bridges around the experts.

    Args:
        paths: of LLM and encoder.
        savings: which of our savings are on; all of them if None.
        lora: whether the LLM has adapters: of rank 1, the share of the work that rank 32 has in the 7B model.
        size: of the miniature that ``paths`` hold.
        backbone: further arguments of the backbone.
    """
    settings = LoraSettings(r=1, lora_alpha=1, lora_dropout=0.0) if lora else None
    language_model = SavingsBackbone(paths["llama"], savings=savings or Savings(), lora=settings, **backbone)
    inputs = InputSide([ReadyFeatures(paths["imagebind"])], dict.fromkeys(("image", "video", "audio"), Linear))
    generators = [
        StableDiffusion(POCKET / "stable_diffusion"),
        ZeroScope(POCKET / "zeroscope"),
        AudioLDM(POCKET / "audioldm"),
    ]
    outputs = OutputSide(generators, dict.fromkeys(MAKES, bridge_out(size)))
    model = AnyToAny(Backbone(language_model, max_length=2048), inputs, outputs)
    model.configure_model()
    return model


def bridge_out(size: Size) -> partial[TinyTransformer]:
    """NExT-GPT's output projector, narrower."""
    width = size.projector_width
    return partial(TinyTransformer, width=width, heads=size.projector_heads, feed_forward=4 * width)
