"""Random experts at full size, on disk: what NExT-GPT is made of, or the same pipelines in miniature."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.miniature import NARROW, POCKET, write_encoder, write_llm
from isthmus.encoders.imagebind.config import ImageBindConfig
from isthmus.training.rehearsal import published_nextgpt


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        width: of the LLM.
        layers: of the LLM.
        heads: of the LLM.
        words: of its vocabulary, besides ten pieces of the template.
        imagebind: the encoder.
        side: of pictures, in pixels.
        rank: of the LLM's adapters in stage 3.
        projector_width: of the output projectors.
        generators: name -> what writes its folder without weights; None for the embedded ones.
        steps: of drawing, between whose times stands one step's.
    """

    width: int
    layers: int
    heads: int
    words: int
    imagebind: ImageBindConfig
    side: int
    rank: int
    projector_width: int
    generators: dict[str, Callable[[Path], None]] | None
    steps: tuple[int, int]


FULL = Scale(
    width=4096,
    layers=32,
    heads=32,
    words=31_990,
    imagebind=ImageBindConfig(modalities=("vision", "audio")),
    side=224,
    rank=32,
    projector_width=512,
    generators={
        "stable_diffusion": published_nextgpt.stable_diffusion,
        "zeroscope": published_nextgpt.zeroscope,
        "audioldm": published_nextgpt.audioldm,
    },
    steps=(1, 11),
)
"""Vicuna-7B, ImageBind-huge, Stable Diffusion 1.5, ZeroScope v2 576w and AudioLDM-L: 25 GB on the disk."""
SMALL = Scale(
    width=NARROW.width,
    layers=3,
    heads=NARROW.heads,
    words=NARROW.words,
    imagebind=NARROW.imagebind,
    side=64,
    rank=4,
    projector_width=NARROW.projector_width,
    generators=None,
    steps=(1, 3),
)
"""For trying it on a CPU, in seconds."""
SCALES = {"full": FULL, "small": SMALL}


def write_experts(folder: Path, scale: Scale, device: torch.device) -> dict[str, Path]:
    """Expert -> its folder; what an earlier run has written whole is kept. Weights are drawn on ``device``."""
    paths = {"llama": folder / "llama", "imagebind": folder / "imagebind"}
    _once(paths["llama"], lambda own: _llm(own, scale, device))
    _once(paths["imagebind"], lambda own: write_encoder(own, scale.imagebind))
    if scale.generators is None:
        return paths | {name: POCKET / name for name in FULL.generators or ()}
    for name, write in scale.generators.items():
        paths[name] = folder / name
        _once(paths[name], lambda own, write=write: _pipeline(own, write, device))  # type: ignore[misc]
    return paths


def _once(folder: Path, write: Callable[[Path], Any]) -> None:
    done = folder / "written"
    if not done.exists():
        write(folder)
        done.touch()


def _llm(folder: Path, scale: Scale, device: torch.device) -> None:
    write_llm(folder, scale.width, scale.layers, scale.words, scale.heads, torch.bfloat16, device)


def _pipeline(folder: Path, write: Callable[[Path], None], device: torch.device) -> None:
    """The folder's configuration files, and random weights in half precision beside each."""
    import diffusers
    import transformers

    write(folder)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    texts = {"AudioLDMPipeline": "ClapTextModelWithProjection"}
    named = {
        "text_encoder": texts.get(index["_class_name"], "CLIPTextModel"),
        "vocoder": "SpeechT5HifiGan",
    }
    for file in sorted(folder.glob("*/config.json")):  # neither tokenizers nor the scheduler have one
        part, config = file.parent.name, json.loads(file.read_text(encoding="utf-8"))
        with torch.device(device):
            if part in named:
                library = getattr(transformers, named[part])
                model = library(library.config_class(**config))
            else:
                model = getattr(diffusers, config["_class_name"]).from_config(config)
        model.to(torch.float16).save_pretrained(folder / part)
        del model
