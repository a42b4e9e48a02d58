"""Tiny diffusers pipelines with random weights, each written by its real class's ``save_pretrained``."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch

from isthmus.generators.audio.audioldm import AudioLDM
from isthmus.generators.diffusion import DiffusionGenerator
from isthmus.generators.image.stable_diffusion import StableDiffusion
from isthmus.generators.video.zeroscope import ZeroScope

KINDS: dict[str, type[DiffusionGenerator]] = {"image": StableDiffusion, "video": ZeroScope, "audio": AudioLDM}


def clip_parts(length: int = 8, width: int = 16) -> dict[str, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        bos_token_id=len(words),
        eos_token_id=len(words) + 1,
    )
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)
    return {"tokenizer": tokenizer, "text_encoder": CLIPTextModel(config)}


def clap_parts() -> dict[str, Any]:
    from transformers import ClapTextConfig, ClapTextModelWithProjection, RobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *string.ascii_lowercase, "Ġ"]
    vocabulary = {word: index for index, word in enumerate(words)}
    config = ClapTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=20,
        projection_dim=16,
    )
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=16)
    return {"tokenizer": tokenizer, "text_encoder": ClapTextModelWithProjection(config)}


def autoencoder(channels: int, **options: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.5,
        **options,
    )


def unet(kind: str, width: int = 16) -> Any:
    from diffusers import UNet2DConditionModel, UNet3DConditionModel

    shape = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    if kind == "video":
        return UNet3DConditionModel(
            **shape,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            cross_attention_dim=width,
            attention_head_dim=4,
        )
    planar = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
    }
    if kind == "image":
        return UNet2DConditionModel(**shape, **planar, cross_attention_dim=width)
    return UNet2DConditionModel(
        **{**shape, "sample_size": 16},
        **planar,
        cross_attention_dim=(8, 16),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=16,
        class_embeddings_concat=True,
    )


def vocoder() -> Any:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=64,
            sampling_rate=16_000,
            upsample_initial_channel=16,
            upsample_rates=[5, 4, 8],
            upsample_kernel_sizes=[9, 8, 16],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    )


def write_pipeline(kind: str, folder: Path, length: int = 8, width: int = 16) -> None:
    """``length`` and ``width``: (C, K) of an image's or a video's condition."""
    from diffusers import DDIMScheduler

    from isthmus.generators.pipeline_classes import deprecation_silenced, pipeline_class

    torch.manual_seed(7)
    parts: dict[str, Any] = {
        "vae": autoencoder(1 if kind == "audio" else 3),
        "unet": unet(kind, width),
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        **(clap_parts() if kind == "audio" else clip_parts(length, width)),
    }
    if kind == "image":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if kind == "audio":
        parts["vocoder"] = vocoder()
    # Away from their start, so that nothing that the tests compare is zero or one by itself.
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    with deprecation_silenced():
        pipeline_class(KINDS[kind].pipeline_name)(**parts).save_pretrained(folder)
