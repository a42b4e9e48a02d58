"""Where the work goes in the 7B system and in the miniature: counted on the real classes, without weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.measuring import flops
from benchmarks.miniature import WIDE, Size, bridge_out
from benchmarks.report import report
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.encoders.imagebind.model import ImageBindModel
from isthmus.output_projectors import TinyTransformer
from isthmus.types import Modality

TOKENS = 32
"""Positions of a caption with its prompt."""
FULL_CONDITIONS = {Modality.IMAGE: (77, 768), Modality.VIDEO: (77, 1024), Modality.AUDIO: (1, 512)}
POCKET_CONDITIONS = {Modality.IMAGE: (8, 64), Modality.VIDEO: (8, 64), Modality.AUDIO: (1, 64)}


def shares(work: dict[str, float]) -> dict[str, float]:
    """Each part's share of the work of a sample."""
    total = sum(work.values())
    return {part: value / total for part, value in work.items()}


def full_size() -> dict[str, float]:
    """Forward multiply-adds of a sample by part: ImageBind-huge, Vicuna-7B, its head, NExT-GPT's output projectors."""
    return _work(ImageBindConfig(), (4096, 11008, 32, 32, 32000), FULL_CONDITIONS, TinyTransformer)


def miniature(size: Size = WIDE) -> dict[str, float]:
    """The same of the miniature."""
    sizes = (size.width, size.width * 11008 // 4096, size.layers, size.heads, size.words + 10)
    return _work(size.imagebind, sizes, POCKET_CONDITIONS, bridge_out(size))


def _work(
    encoder: ImageBindConfig,
    llm: tuple[int, int, int, int, int],
    conditions: dict[Modality, tuple[int, int]],
    bridge: Callable[..., nn.Module],
) -> dict[str, float]:
    from transformers import LlamaConfig, LlamaModel

    hidden, inner, layers, heads, vocabulary = llm
    with torch.device("meta"), torch.no_grad():
        model = ImageBindModel(encoder.with_towers(("vision", "audio"))).eval()
        views = {
            Modality.IMAGE: torch.zeros(1, 3, encoder.image_size, encoder.image_size),
            Modality.VIDEO: _clips(encoder, encoder.video_clips * encoder.video_crops),
            Modality.AUDIO: torch.zeros(
                1, encoder.audio_clips, 1, encoder.audio_num_mel_bins, encoder.audio_target_len
            ),
        }
        encoding = [
            flops(partial(model.embed, "audio" if modality is Modality.AUDIO else "vision", clips))
            for modality, clips in views.items()
        ]
        decoder = LlamaModel(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=hidden,
                intermediate_size=inner,
                num_hidden_layers=layers,
                num_attention_heads=heads,
            )
        ).eval()
        # A ready-made mask: the library would look at the values of another.
        mask = torch.zeros(1, 1, TOKENS, TOKENS)
        embeddings = torch.zeros(1, TOKENS, hidden)
        decoding = flops(lambda: decoder(inputs_embeds=embeddings, attention_mask=mask, use_cache=False))
        head = nn.Linear(hidden, vocabulary, bias=False)
        projecting = []
        for modality, shape in conditions.items():
            signals = Modality(modality).spec.signals
            projector: Any = bridge(hidden, signals, shape)  # in train mode: eval has a kernel of its own
            projecting.append(flops(partial(projector, torch.zeros(1, signals, hidden))))
        scoring = flops(lambda: head(torch.zeros(TOKENS, hidden)))
    count = len(views)
    return {
        "encoder": sum(encoding) / count / 2,
        "llm": decoding / 2,
        "head": scoring / 2,
        "output projector": sum(projecting) / count / 2,
    }


def _clips(encoder: ImageBindConfig, views: int) -> torch.Tensor:
    return torch.zeros(1, views, 3, encoder.video_frames, encoder.image_size, encoder.image_size)


def run() -> Path:
    """Both side by side."""
    full, mini = full_size(), miniature()
    rows = [
        {
            "part": part,
            "7B, GMAC": full[part] / 1e9,
            "7B, share": shares(full)[part],
            "miniature, MMAC": mini[part] / 1e6,
            "miniature, share": shares(mini)[part],
        }
        for part in full
    ]
    return report("proportions", rows, tokens=TOKENS)
