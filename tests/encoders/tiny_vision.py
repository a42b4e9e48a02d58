"""Folders of small vision models, as transformers saves them, and pictures to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    BitImageProcessorPil,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessorPil,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    OPTConfig,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from isthmus.encoders.base import Encoder
from isthmus.types import Media, Modality

SIDE, PATCH, WIDTH, LAYERS = 32, 8, 16, 3
SQUARE = {"height": SIDE, "width": SIDE}
TOWER: dict[str, Any] = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "image_size": SIDE,
    "patch_size": PATCH,
}  # fmt: skip
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 1}


def _clip() -> Any:
    vision, text = CLIPVisionConfig(intermediate_size=24, **TOWER), CLIPTextConfig(**TEXT, **ENDS)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8))


def _siglip() -> Any:
    vision = {"intermediate_size": 24, **TOWER}
    return SiglipModel(SiglipConfig(text_config={**TEXT, **ENDS}, vision_config=vision))


def _blip2() -> Any:
    former = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(intermediate_size=24, **TOWER),
        qformer_config=Blip2QFormerConfig(vocab_size=40, encoder_hidden_size=WIDTH, **former),
        text_config=OPTConfig(
            vocab_size=40,
            hidden_size=16,
            ffn_dim=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            word_embed_proj_dim=16,
        ),
    )
    return Blip2ForConditionalGeneration(config)


def _convnext() -> Any:
    return ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=SIDE, drop_path_rate=0.0)
    )


# Name -> the model that is saved, how to reach the tower in it, and its image processor.
MODELS: dict[str, tuple[Any, Any, Any]] = {
    "clip": (_clip, lambda m: m.vision_model, CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)),
    "vit": (
        lambda: ViTForImageClassification(ViTConfig(intermediate_size=24, **TOWER)),
        lambda m: m.vit,
        ViTImageProcessorPil(size=SQUARE),
    ),
    "siglip": (_siglip, lambda m: m.vision_model, SiglipImageProcessorPil(size=SQUARE)),
    "dinov2": (
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=4, mlp_ratio=2, **TOWER)),
        lambda m: m,
        BitImageProcessorPil(size={"shortest_edge": 40}, crop_size=SQUARE),
    ),
    "blip2": (_blip2, lambda m: m.vision_model, CLIPImageProcessorPil(size=SQUARE, do_center_crop=False)),
    "convnext": (_convnext, lambda m: m.convnext, ConvNextImageProcessorPil(size={"shortest_edge": 384}, crop_pct=1.0)),
}
LEADING = {"clip": 1, "vit": 1, "siglip": 0, "dinov2": 5, "blip2": 1}
"""Class and register tokens before the patches."""


def save_model(name: str, folder: Path) -> Any:
    """Writes the model and its image processor, each weight of which matters; returns the tower."""
    make, tower_of, processor = MODELS[name]
    torch.manual_seed(7)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return tower_of(model)


def picture(height: int, width: int, seed: int = 0) -> Media:
    """An image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Media(Modality.IMAGE, pixels, source="scan.png")


def stacked(encoder: Encoder, media: list[Media]) -> dict[str, Tensor]:
    """Preprocessed and stacked, as a collated batch has them."""
    inputs = [encoder.preprocess(medium) for medium in media]
    return {key: torch.stack([one[key] for one in inputs]) for key in inputs[0]}
