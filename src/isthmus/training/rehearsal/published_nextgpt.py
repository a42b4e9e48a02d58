"""Published checkpoints of configs/experts/nextgpt.yaml as folders of configuration files: sizes as published.

Sources: the defaults of transformers' and diffusers' configuration classes where they are the published model's, the
conversion scripts in diffusers' repository, and model cards. Tokenizers are tiny ones of the right class: no size here
depends on their words.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.encoders.imagebind.config import TOWERS

Config = dict[str, Any]

DDIM: Config = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
# diffusers: the kl-f8 autoencoder of Stable Diffusion 1 and 2, from AutoencoderKL's own documentation.
KL_F8: Config = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}


def write(file: Path, content: Config) -> None:
    """A JSON file, and the folder that it stands in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def write_parts(folder: Path, pipeline: str, parts: dict[str, Config]) -> None:
    """``model_index.json`` and each part's ``config.json``; the scheduler's goes by its own name."""
    index = {name: ["library", config.get("_class_name", name)] for name, config in parts.items()}
    write(folder / "model_index.json", {"_class_name": pipeline, **index})
    for name, config in parts.items():
        write(folder / name / ("scheduler_config.json" if name == "scheduler" else "config.json"), config)


def clip_tokenizer(folder: Path) -> None:
    """CLIP's, over letters."""
    from transformers import CLIPTokenizer

    words = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)


def roberta_tokenizer(folder: Path) -> None:
    """RoBERTa's, over letters."""
    from transformers import RobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *string.ascii_lowercase, "Ġ"]
    vocabulary = {word: index for index, word in enumerate(words)}
    RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=512).save_pretrained(folder)


def byte_tokenizer(folder: Path, special: tuple[str, str, str], template: str | None) -> None:
    """A fast tokenizer over bytes with these unknown, begin and end tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    pieces = [*dict.fromkeys(special), *bytes_to_unicode().values()]
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=special[0],
        pad_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)


def imagebind(folder: Path) -> None:
    """``imagebind_huge``: the sizes that the encoder takes for granted, which its weights file doesn't hold."""
    write(folder / "config.json", {"imagebind": {"modalities": list(TOWERS)}})


def vicuna(folder: Path) -> None:
    """``lmsys/vicuna-7b-v1.5``: LlamaConfig's defaults are LLaMA-7B; Llama 2 doubles the context."""
    from transformers import LlamaConfig

    LlamaConfig(max_position_embeddings=4096, architectures=["LlamaForCausalLM"]).save_pretrained(folder)
    byte_tokenizer(folder, ("<unk>", "<s>", "</s>"), template=None)  # the published one has none


def stable_diffusion(folder: Path) -> None:
    """``stable-diffusion-v1-5``: the UNet is UNet2DConditionModel's default at CLIP-L's width."""
    from transformers import CLIPTextConfig

    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
    unet = {"_class_name": "UNet2DConditionModel", "sample_size": 64, "cross_attention_dim": 768}
    parts = {"unet": unet, "vae": KL_F8, "text_encoder": text.to_dict(), "scheduler": DDIM}
    write_parts(folder, "StableDiffusionPipeline", parts)
    clip_tokenizer(folder / "tokenizer")


def zeroscope(folder: Path) -> None:
    """``zeroscope_v2_576w``: UNet3DConditionModel's defaults; OpenCLIP-H's text tower without its last layer."""
    from transformers import CLIPTextConfig

    text = CLIPTextConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"
    )
    unet = {"_class_name": "UNet3DConditionModel", "sample_size": 32, "cross_attention_dim": 1024}
    parts = {"unet": unet, "vae": KL_F8, "text_encoder": text.to_dict(), "scheduler": DDIM}
    write_parts(folder, "TextToVideoSDPipeline", parts)
    clip_tokenizer(folder / "tokenizer")


def audioldm_vae() -> Config:
    """Of all AudioLDMs: a spectrogram's only channel to 8, a fourth of its sides."""
    return {
        **KL_F8,
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 8,
        "block_out_channels": [128, 256, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
    }


def audioldm_vocoder() -> Config:
    """Of all AudioLDMs: HiFi-GAN at 16 kHz."""
    from transformers import SpeechT5HifiGanConfig

    config: Config = SpeechT5HifiGanConfig(
        model_in_dim=64,
        sampling_rate=16000,
        upsample_initial_channel=1024,
        upsample_rates=[5, 4, 2, 2, 2],
        upsample_kernel_sizes=[16, 16, 8, 4, 4],
        normalize_before=False,
    ).to_dict()
    return config


def audioldm(folder: Path) -> None:
    """``cvssp/audioldm-l-full``: base width 256, by diffusers' scripts/convert_original_audioldm_to_diffusers.py."""
    from transformers import ClapTextConfig

    widths = [256, 512, 768, 1280]
    unet = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128,
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": widths,
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
        "cross_attention_dim": widths,
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": 512,
        "class_embeddings_concat": True,
    }
    text = ClapTextConfig(projection_dim=512)
    parts = {"unet": unet, "vae": audioldm_vae(), "text_encoder": text.to_dict(), "scheduler": DDIM}
    parts |= {"vocoder": audioldm_vocoder()}
    write_parts(folder, "AudioLDMPipeline", parts)
    roberta_tokenizer(folder / "tokenizer")


NEXTGPT: dict[str, Callable[[Path], None]] = {
    "imagebind": imagebind,
    "vicuna-7b-v1.5": vicuna,
    "stable-diffusion-v1-5": stable_diffusion,
    "zeroscope_v2_576w": zeroscope,
    "audioldm-l-full": audioldm,
}
"""Folder under ``checkpoints/`` that the config names -> what writes it."""
