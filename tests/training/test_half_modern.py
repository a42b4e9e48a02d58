"""The classes of `experts/modern.yaml` at small sizes, in bfloat16 under mixed precision."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from newer_pipelines import NEWER, SMALL
from runs import data
from tiny_parts import Shelf
from tiny_world import SIGNALS

from isthmus.backbones import CausalBackbone, LoraSettings
from isthmus.encoders.speech.whisper import Whisper
from isthmus.encoders.vision.frames_encoder import FramesEncoder
from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.input_projectors import CrossAttention, TokenMerging
from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
from isthmus.output_projectors import TinyTransformer
from isthmus.pocket.tasks import AnyToAny as AnyTask
from isthmus.training import LossWeights, Stage, StageSwitch, TrainingModule

MADE = {"image": "xl", "video": "wan", "audio": "audioldm2"}
MEDIA = list(MADE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AnyToAny:
    shelf = Shelf(tmp_path_factory.mktemp("modern"))
    half: dict[str, Any] = {"dtype": "bfloat16"}
    vision = FramesEncoder(TransformersVision(shelf("clip"), **half), num_frames=2, modalities=["image", "video"])
    resampler = partial(CrossAttention, queries=4, width=16, depth=1, heads=2)
    bridges = {"image": partial(TokenMerging, tokens_per_position=4), "video": resampler, "audio": resampler}
    bridge = partial(TinyTransformer, width=16, encoder_layers=1, decoder_layers=1, heads=2, feed_forward=16)
    return AnyToAny(
        Backbone(CausalBackbone(shelf("llama"), SIGNALS, LoraSettings(r=2, lora_alpha=4), **half), 1024),
        InputSide([vision, Whisper(shelf("whisper"), **half)], bridges),
        OutputSide(
            [NEWER[kind](shelf(kind), **SMALL.get(kind, {}), num_inference_steps=2, **half) for kind in MADE.values()],
            dict.fromkeys(MEDIA, bridge),
        ),
    )


def test_it_learns_by_every_loss_and_answers_with_every_medium(model: AnyToAny, tmp_path: Path) -> None:
    module = data()
    module.sources = {"mixed": AnyTask(size=24, inputs=("text", *MEDIA), outputs=("text", *MEDIA))}
    stage = Stage(
        ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"],
        LossWeights(alignment=1.0, denoising=0.5),
        {"mixed": 1.0},
        steps=2,
    )
    trainer = pl.Trainer(
        accelerator="cpu", precision="bf16-mixed", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[StageSwitch({"tuning": stage}, folder=tmp_path)],
    )  # fmt: skip
    trainer.fit(TrainingModule(model), datamodule=module)
    assert trainer.global_step == 2
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in tensors)
    model._trainer = None
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            reply = model.eval().chat([{"role": "user", "content": "all of them"}], require=MEDIA)
        assert sorted(medium.modality for medium in reply.media()) == sorted(MEDIA)
        assert all(np.isfinite(medium.array.astype(np.float64)).all() for medium in reply.media())
