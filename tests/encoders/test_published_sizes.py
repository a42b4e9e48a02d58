"""Experts of transformers at their published sizes, from a configuration alone: as many parameters as published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    Blip2Config,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    HubertConfig,
    ViTConfig,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from isthmus.encoders.base import Encoder
from isthmus.encoders.speech.hubert import Hubert
from isthmus.encoders.speech.whisper import Whisper
from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.frozen import shapes_only
from isthmus.types import Modality

VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SPEECH = Wav2Vec2FeatureExtractor(return_attention_mask=True)
WHISPER = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
Case = tuple[Callable[[Path], Encoder], Any, Any, int, str]
# What reads the folder, its configuration and processor, D, and what the paper says.
PUBLISHED: dict[str, Case] = {
    "ViT-B/16": (TransformersVision, ViTConfig(), ViTImageProcessorPil(), 768, "86 M"),  # arXiv 2010.11929, table 1
    "ViT-L/16": (TransformersVision, ViTConfig(**VIT_L), ViTImageProcessorPil(), 1024, "303 M"),  # 307 M with its head
    "CLIP ViT-L/14": (
        TransformersVision,
        CLIPVisionConfig(patch_size=14, **VIT_L),
        CLIPImageProcessorPil(),
        1024,
        "303 M",
    ),
    # arXiv 2211.07636: one billion; BLIP-2 drops its last layer.
    "EVA-CLIP-g in BLIP-2": (
        TransformersVision,
        Blip2Config(),
        CLIPImageProcessorPil(size={"height": 224, "width": 224}, do_center_crop=False),
        1408,
        "986 M",
    ),
    "HuBERT base": (Hubert, HubertConfig(), Wav2Vec2FeatureExtractor(), 768, "94 M"),  # arXiv 2106.07447: 95 M
    "HuBERT large": (Hubert, HubertConfig(**VIT_L, **LARGE), SPEECH, 1024, "315 M"),  # 317 M
    "Whisper large-v3": (
        Whisper,
        WhisperConfig(num_mel_bins=128, **WHISPER),
        WhisperFeatureExtractor(feature_size=128),
        1280,
        "637 M",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str, tmp_path: Path) -> None:
    kind, config, processor, width, said = PUBLISHED[name]
    config.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == config.model_type
    with shapes_only():
        encoder = kind(tmp_path)
        encoder.load()
    (modality,) = encoder.modalities
    assert encoder.width(Modality(modality)) == width
    assert all(parameter.is_meta for parameter in encoder.parameters())
    assert f"{sum(parameter.numel() for parameter in encoder.parameters()) / 1e6:.0f} M" == said
