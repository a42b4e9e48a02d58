"""The published checkpoints of configs/experts/modern.yaml as folders of their configuration files alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.training.rehearsal.published_nextgpt import (
    DDIM,
    KL_F8,
    Config,
    audioldm_vae,
    audioldm_vocoder,
    byte_tokenizer,
    clip_tokenizer,
    roberta_tokenizer,
    write,
    write_parts,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def t5_tokenizer(folder: Path) -> None:
    """T5's, over ten letters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in "abcdefghij")]
    T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512).save_pretrained(folder)


def siglip(folder: Path) -> None:
    """``google/siglip-so400m-patch14-384``: the shape-optimised 400M tower (arXiv 2305.13035), at 384 pixels."""
    from transformers import SiglipConfig

    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    vision = {**sizes, "image_size": 384, "patch_size": 14}
    write(folder / "config.json", SiglipConfig(vision_config=vision, text_config=sizes).to_dict())
    edge = {"height": 384, "width": 384}
    processor: dict[str, Any] = {"image_processor_type": "SiglipImageProcessor", "do_resize": True, "size": edge}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    write(folder / "preprocessor_config.json", processor)


def whisper(folder: Path) -> None:
    """``openai/whisper-large-v3``: large's widths, 128 mel bins."""
    from transformers import WhisperConfig, WhisperFeatureExtractor

    layers: Config = {f"{half}_{name}": size for half in ("encoder", "decoder") for name, size in WHISPER_HALF.items()}
    WhisperConfig(vocab_size=51866, num_mel_bins=128, d_model=1280, **layers).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)


WHISPER_HALF = {"layers": 32, "attention_heads": 20, "ffn_dim": 5120}


def qwen3(folder: Path) -> None:
    """``Qwen/Qwen3-4B-Instruct-2507``: Qwen3's technical report (arXiv 2505.09388), table 1; the head is tied."""
    from transformers import Qwen3Config

    Qwen3Config(
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        architectures=["Qwen3ForCausalLM"],
    ).save_pretrained(folder)
    byte_tokenizer(folder, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), CHATML)


def stable_diffusion_xl(folder: Path) -> None:
    """``stable-diffusion-xl-base-1.0``: arXiv 2307.01952, table 1; OpenCLIP-bigG beside CLIP-L."""
    from transformers import CLIPTextConfig

    large = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
    giant = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
    )
    unet = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    parts = {"unet": unet, "vae": {**KL_F8, "scaling_factor": 0.13025}, "scheduler": DDIM}
    parts |= {"text_encoder": large.to_dict(), "text_encoder_2": giant.to_dict()}
    write_parts(folder, "StableDiffusionXLPipeline", parts)
    for tokenizer in ("tokenizer", "tokenizer_2"):
        clip_tokenizer(folder / tokenizer)


def wan(folder: Path) -> None:
    """``Wan2.1-T2V-1.3B-Diffusers``: arXiv 2503.20314; UMT5-XXL hears; the VAE is the class's default."""
    from transformers import UMT5Config

    sizes = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30, "text_dim": 4096}
    transformer = {"_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2], **sizes}
    text = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
    schedule = {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "flow_shift": 3.0}
    schedule |= {"use_flow_sigmas": True, "num_train_timesteps": 1000}
    parts: dict[str, Config] = {"transformer": transformer, "vae": {"_class_name": "AutoencoderKLWan"}}
    parts |= {"text_encoder": text.to_dict(), "scheduler": schedule}
    write_parts(folder, "WanPipeline", parts)
    t5_tokenizer(folder / "tokenizer")


def audioldm2(folder: Path) -> None:
    """``cvssp/audioldm2``, by diffusers' scripts/convert_original_audioldm2_to_diffusers.py and its DEFAULT_CONFIG."""
    from transformers import ClapConfig, GPT2Config, T5Config

    flan = T5Config(
        vocab_size=32128,
        d_model=1024,
        d_kv=64,
        d_ff=2816,
        num_layers=24,
        num_heads=16,
        feed_forward_proj="gated-gelu",
    )
    unet: Config = {
        "_class_name": "AudioLDM2UNet2DConditionModel",
        "sample_size": 256,
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": [128, 256, 384, 640],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"],
        # For each block: GPT-2's tokens, then T5's, and a layer of self-attention.
        "cross_attention_dim": [[None, 768, 1024]] * 4,
        "transformer_layers_per_block": 1,
    }
    projection: Config = {
        "_class_name": "AudioLDM2ProjectionModel",
        "text_encoder_dim": 512,
        "text_encoder_1_dim": 1024,
        "langauge_model_dim": 768,  # spelled so in diffusers
    }
    parts = {"unet": unet, "vae": audioldm_vae(), "vocoder": audioldm_vocoder(), "scheduler": DDIM}
    parts |= {"projection_model": projection, "language_model": GPT2Config().to_dict()}
    parts |= {"text_encoder": ClapConfig().to_dict(), "text_encoder_2": flan.to_dict()}
    write_parts(folder, "AudioLDM2Pipeline", parts)
    roberta_tokenizer(folder / "tokenizer")
    t5_tokenizer(folder / "tokenizer_2")


MODERN: dict[str, Callable[[Path], None]] = {
    "siglip-so400m-patch14-384": siglip,
    "whisper-large-v3": whisper,
    "qwen3-4b-instruct": qwen3,
    "stable-diffusion-xl-base-1.0": stable_diffusion_xl,
    "wan2.1-t2v-1.3b": wan,
    "audioldm2": audioldm2,
}
"""Folder under ``checkpoints/`` that the config names -> what writes it."""
