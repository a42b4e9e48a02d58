"""A folder of each expert of the package at a few thousand parameters, in its real format, by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from newer_pipelines import NEWER, write_newer
from tiny_pipelines import KINDS, write_pipeline
from tiny_shap_e import write_shap_e
from tiny_world import IMAGEBIND, POINT_BERT, write_llm, write_t5

from isthmus.encoders.checkpoint import save_checkpoint

SPEECH_SECONDS = 1
"""What the tiny audio encoders hear."""
TIMM_OPTIONS: dict[str, Any] = {"embed_dim": 32, "depth": 1, "num_heads": 4, "num_classes": 0, "img_size": 28}


def stirred(model: Any) -> Any:
    """The model with what starts at 0 or 1 drawn too, so that each weight matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def write_imagebind(folder: Path) -> None:
    from isthmus.encoders.imagebind.model import ImageBindModel

    save_checkpoint(folder, "imagebind", IMAGEBIND, ImageBindModel(IMAGEBIND).state_dict())


def write_point_bert(folder: Path) -> None:
    from isthmus.encoders.point_bert.model import PointBertModel

    save_checkpoint(folder, "point_bert", POINT_BERT, PointBertModel(POINT_BERT).state_dict())


def write_clip(folder: Path) -> None:
    from tiny_vision import save_model

    save_model("clip", folder)


def write_timm(folder: Path) -> None:
    import timm
    from safetensors.torch import save_file

    model = stirred(timm.create_model("eva_giant_patch14_clip_224", **TIMM_OPTIONS))
    folder.mkdir()
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / "eva.safetensors")


def write_frequency(folder: Path) -> None:
    folder.mkdir()
    fields = {"image_size": 32, "blocks": 1, "luma": 6, "chroma": 2}
    (folder / "config.json").write_text(json.dumps({"frequency": fields}))


def write_beats(folder: Path) -> None:
    from isthmus.encoders.beats.config import BeatsConfig
    from isthmus.encoders.beats.model import BeatsModel

    config = BeatsConfig(
        encoder_layers=1, encoder_embed_dim=16, encoder_ffn_embed_dim=24, encoder_attention_heads=2, embed_dim=8,
        conv_pos=6, conv_pos_groups=4, num_buckets=8, max_distance=20,
    )  # fmt: skip
    save_checkpoint(folder, "beats", config, BeatsModel(config).state_dict())


def write_whisper(folder: Path, seconds: int = SPEECH_SECONDS) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=24, num_mel_bins=8, vocab_size=20,
        max_source_positions=50 * seconds, max_target_positions=4, pad_token_id=1, bos_token_id=1,
        eos_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    stirred(WhisperModel(config)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=seconds).save_pretrained(folder)


def write_hubert(folder: Path) -> None:
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    config = HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, conv_dim=(8, 8, 8),
        conv_kernel=(20, 8, 4), conv_stride=(10, 8, 4), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        vocab_size=12, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
    )  # fmt: skip
    stirred(HubertModel(config)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)


def write_c_former(folder: Path) -> None:
    from isthmus.encoders.c_former.model import CFormerConfig, CFormerModel

    config = CFormerConfig(
        bins=16, bank_mean=-9.0, bank_deviation=4.0, width=16, layers=1, heads=2, feed_forward=24, kernel=5,
        channels=4, pieces=("a", "b", "c"),
    )  # fmt: skip
    save_checkpoint(folder, "c_former", config, stirred(CFormerModel(config)).state_dict())


WRITERS: dict[str, Callable[[Path], None]] = {
    "imagebind": write_imagebind,
    "point_bert": write_point_bert,
    "clip": write_clip,
    "timm": write_timm,
    "frequency": write_frequency,
    "beats": write_beats,
    "whisper": write_whisper,
    "hubert": write_hubert,
    "c_former": write_c_former,
    "llama": write_llm,
    "t5": write_t5,
    "shap_e": write_shap_e,
    **{kind: lambda folder, kind=kind: write_pipeline(kind, folder) for kind in KINDS},
    **{kind: lambda folder, kind=kind: write_newer(kind, folder) for kind in NEWER},
}
"""Name -> what writes its folder, which isn't there yet."""


class Shelf:
    """Folders of tiny experts, each written when it is first asked for, and never changed afterwards."""

    def __init__(self, folder: Path, writers: Mapping[str, Callable[[Path], None]] = WRITERS) -> None:
        self.folder = folder
        self.writers = writers

    def __call__(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_dir():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                self.writers[name](path)
        return path
