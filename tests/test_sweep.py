"""Every part of the package in a whole model, through all three stages under the real StageSwitch: the loss falls.

One composition of tiny experts, one part swapped a case. The cases are held against the table of parts, so that a new
part without a line in CASES fails.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from model.talks import caption, talk
from newer_pipelines import NEWER
from newer_pipelines import SMALL as NEWER_SIZES
from tiny_parts import SPEECH_SECONDS, TIMM_OPTIONS, Shelf
from tiny_pipelines import KINDS
from tiny_world import SIGNALS

from isthmus import input_projectors, output_projectors
from isthmus.backbones import CausalBackbone, EncoderDecoderBackbone, FusionSettings, LoraSettings, named_rows
from isthmus.cli.parts import Part, all_parts
from isthmus.data.conversations.schema import Conversation
from isthmus.data.conversations.sources import ConversationSource
from isthmus.data.module import ConversationDataModule
from isthmus.encoders.beats.encoder import Beats
from isthmus.encoders.c_former.encoder import CFormer
from isthmus.encoders.imagebind.encoder import ImageBind
from isthmus.encoders.point_bert.encoder import PointBert
from isthmus.encoders.speech.hubert import Hubert
from isthmus.encoders.speech.whisper import Whisper
from isthmus.encoders.vision.frames_encoder import FramesEncoder
from isthmus.encoders.vision.frequency_encoder import FrequencyEncoder
from isthmus.encoders.vision.tiles_encoder import TilesEncoder
from isthmus.encoders.vision.timm_vision import TimmVision
from isthmus.encoders.vision.transformers_vision import TransformersVision
from isthmus.generators.points.shap_e import ShapE
from isthmus.model import AnyToAny, Backbone, InputSide, OutputSide
from isthmus.model.bundle import read_components
from isthmus.training import LossWeights, Stage, StageSwitch, TrainingModule

Parts = dict[str, Any]
LORA = LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0)
SMALL_BERT = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 24, "dropout": 0.0}
STEPS = {"encoder_alignment": 16, "decoder_alignment": 8, "instruction_tuning": 8}
CONVERSATIONS = 5
"""In each source. A batch holds all of them, so that a step's loss can be compared with another's."""


def base(shelf: Shelf) -> Parts:
    """What stays where a case says nothing."""
    return {
        "encoder": ImageBind(shelf("imagebind"), ("image",), tokens="patch"),
        "bridge_in": partial(input_projectors.MLP, hidden=16),
        "backbone": CausalBackbone(shelf("llama"), SIGNALS, LORA),
        "bridge_out": partial(
            output_projectors.TinyTransformer, width=16, encoder_layers=1, decoder_layers=1, heads=2, feed_forward=16
        ),
        "generator": KINDS["image"](shelf("image")),
        "denoises": True,
    }


def diffusion(kind: str, options: Mapping[str, Any]) -> Callable[[Shelf], Parts]:
    """A pipeline's generator in the place of the base's."""
    return lambda shelf: {"generator": (KINDS | NEWER)[kind](shelf(kind), **options)}


# Each beside an ImageBind, a Llama and a Stable Diffusion; the media that are shown and drawn follow from the part.
CASES: dict[str, Callable[[Shelf], Parts]] = {
    "encoders.ImageBind": lambda shelf: {},
    "encoders.TransformersVision": lambda shelf: {"encoder": TransformersVision(shelf("clip"))},
    "encoders.TimmVision": lambda shelf: {
        "encoder": TimmVision("eva_giant_patch14_clip_224", shelf("timm") / "eva.safetensors", options=TIMM_OPTIONS)
    },
    "encoders.TilesEncoder": lambda shelf: {
        "encoder": TilesEncoder(TransformersVision(shelf("clip")), 16, [(1, 2), (2, 2)])
    },
    "encoders.FrequencyEncoder": lambda shelf: {"encoder": FrequencyEncoder(shelf("frequency"))},
    "encoders.FramesEncoder": lambda shelf: {"encoder": FramesEncoder(TransformersVision(shelf("clip")), num_frames=2)},
    "encoders.PointBert": lambda shelf: {"encoder": PointBert(shelf("point_bert"))},
    "encoders.Beats": lambda shelf: {"encoder": Beats(shelf("beats"), seconds=SPEECH_SECONDS)},
    "encoders.Whisper": lambda shelf: {"encoder": Whisper(shelf("whisper"))},
    "encoders.Hubert": lambda shelf: {"encoder": Hubert(shelf("hubert"), seconds=SPEECH_SECONDS)},
    "encoders.CFormer": lambda shelf: {"encoder": CFormer(shelf("c_former"), seconds=SPEECH_SECONDS)},
    "input_projectors.Linear": lambda shelf: {"bridge_in": input_projectors.Linear},
    "input_projectors.MLP": lambda shelf: {},
    "input_projectors.TokenMerging": lambda shelf: {"bridge_in": input_projectors.TokenMerging},
    "input_projectors.CrossAttention": lambda shelf: {
        "bridge_in": partial(input_projectors.CrossAttention, queries=4, width=16, depth=1, heads=2)
    },
    "input_projectors.QFormer": lambda shelf: {"bridge_in": partial(input_projectors.QFormer, queries=4, **SMALL_BERT)},
    "input_projectors.CFormerProjector": lambda shelf: {
        "encoder": CFormer(shelf("c_former"), seconds=SPEECH_SECONDS),
        "bridge_in": partial(input_projectors.CFormerProjector, **SMALL_BERT),
    },
    "backbones.CausalBackbone": lambda shelf: {},
    "backbones.EncoderDecoderBackbone": lambda shelf: {"backbone": EncoderDecoderBackbone(shelf("t5"), SIGNALS, LORA)},
    "output_projectors.MLP": lambda shelf: {"bridge_out": partial(output_projectors.MLP, hidden=16)},
    "output_projectors.TinyTransformer": lambda shelf: {},
    "generators.StableDiffusion": lambda shelf: {},
    "generators.StableDiffusionXL": diffusion("xl", {}),
    "generators.StableDiffusion3": diffusion("sd3", NEWER_SIZES["sd3"]),
    "generators.ZeroScope": diffusion("video", {"num_frames": 3}),
    "generators.Wan": diffusion("wan", NEWER_SIZES["wan"]),
    "generators.AudioLDM": diffusion("audio", {}),
    "generators.AudioLDM2": diffusion("audioldm2", NEWER_SIZES["audioldm2"]),
    "generators.StableAudio": diffusion("stable_audio", {}),
    "generators.ShapE": lambda shelf: {"generator": ShapE(shelf("shap_e")), "denoises": False},
}

HAS_TIMM = importlib.util.find_spec("timm") is not None
MARKS = {
    "": [],
    "timm": [pytest.mark.timm, pytest.mark.skipif(not HAS_TIMM, reason="`make test-timm` runs this in .venv-timm")],
}
"""Extra of the package -> marks of the parts that need it."""
PARTS = [part for part in all_parts() if not part.card.within]


def key(part: Part) -> str:
    return part.class_path.removeprefix("isthmus.")


def named(part: Part) -> type:
    module, _, name = part.class_path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


class Talks(ConversationSource):
    """A few conversations, always the same."""

    def __init__(self, name: str, talks: list[Conversation]) -> None:
        self.name = name
        self.talks = talks

    def __len__(self) -> int:
        return len(self.talks)

    def __getitem__(self, index: int) -> Conversation:
        return self.talks[index]


def data(given: str, made: str, with_content: bool) -> ConversationDataModule:
    """Media to words, words to media, and media to media; answers bring their files if ``with_content``."""
    digits = range(1, CONVERSATIONS + 1)

    def answer(asked: list[Any], said: list[Any], seed: int) -> Conversation:
        return talk(asked, said, with_content, seed)

    sources = {
        "describe": [talk([(given, digit), "what?"], [caption(given, digit)]) for digit in digits],
        "draw": [answer([caption(made, digit)], ["see ", (made, digit)], digit) for digit in digits],
        "any_to_any": [answer([(given, digit), "draw"], [(made, digit), " drawn"], digit) for digit in digits],
    }
    return ConversationDataModule(
        {name: Talks(name, talks) for name, talks in sources.items()}, batch_size=CONVERSATIONS
    )


def stages(has_fusion: bool) -> dict[str, Stage]:
    """The paper's, a few steps each. New layers in the LLM learn with the input side."""
    inwards = ["input_projectors", "media_tags", *(["fusion"] if has_fusion else [])]
    outwards = ["output_projectors", "signal_rows"]
    plans = {
        "encoder_alignment": (inwards, LossWeights(), "describe"),
        "decoder_alignment": (outwards, LossWeights(alignment=1.0), "draw"),
        "instruction_tuning": ([*inwards, *outwards, "lora"], LossWeights(alignment=1.0, denoising=0.1), "any_to_any"),
    }
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    return {
        name: Stage(
            trains,
            losses,
            {source: 1.0},
            steps=STEPS[name],
            optimizer=optimizer,
            warmup_ratio=0.0,
            lr_scheduler_type="constant",
        )
        for name, (trains, losses, source) in plans.items()
    }


class Diary(pl.Callback):
    """What every step of each stage logs."""

    def __init__(self) -> None:
        self.logged: dict[str, list[dict[str, float]]] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        switch = next(callback for callback in trainer.callbacks if isinstance(callback, StageSwitch))
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.logged.setdefault(switch.name, []).append(values)


def assert_falls(steps: list[dict[str, float]], term: str, stage: str) -> None:
    """The mean over the last quarter is well below that over the first."""
    values = [step[f"train/{term}"] for step in steps]
    count = len(values) // 4
    first, last = sum(values[:count]) / count, sum(values[-count:]) / count
    assert last < 0.98 * first, f"{stage}: {term} went {', '.join(f'{value:.4f}' for value in values)}"


def sweep(parts: Parts, folder: Path) -> AnyToAny:
    """Trains the composition and checks each stage."""
    given = str(parts["encoder"].modalities[0])
    made = str(parts["generator"].modality)
    input_side = InputSide([parts["encoder"]], {given: parts["bridge_in"]})
    output_side = OutputSide([parts["generator"]], {made: parts["bridge_out"]})
    model = AnyToAny(Backbone(parts["backbone"], 1024), input_side, output_side)
    model.configure_model()
    state = named_rows.named(model.owned_state(), model.backbone.language_model.vocabulary)
    before = {part: {name: t.clone() for name, t in own.items()} for part, own in state.items()}
    known, diary = stages("fusion" in model.parts()), Diary()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
        callbacks=[StageSwitch(known, folder=folder), diary],
    )
    trainer.fit(TrainingModule(model), datamodule=data(given, made, parts["denoises"]))

    assert list(diary.logged) == list(known)
    for stage, steps in diary.logged.items():
        assert len(steps) == STEPS[stage]
        assert_falls(steps, "loss", stage)
        if stage != "encoder_alignment":
            assert_falls(steps, f"alignment_{made}", stage)
        after = read_components(folder / stage)
        moved = {
            part.split(".")[0]
            for part, own in after.items()
            if any(not torch.equal(tensor, before[part][name]) for name, tensor in own.items())
        }
        assert moved == set(known[stage].trains), stage
        before = after
    assert (f"train/denoising_{made}" in diary.logged["instruction_tuning"][-1]) == parts["denoises"]
    return model


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf"))


def test_every_part_has_a_case() -> None:
    parts = {key(part) for part in PARTS}
    assert parts == set(CASES), f"CASES lacks {sorted(parts - set(CASES))}; no parts: {sorted(set(CASES) - parts)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=MARKS[part.card.extra], id=f"{part.kind}-{part.name}") for part in PARTS]
)
def test_the_loss_falls_in_every_stage(part: Part, shelf: Shelf, tmp_path: Path) -> None:
    model = sweep(base(shelf) | CASES[key(part)](shelf), tmp_path)
    assert any(type(module) is named(part) for module in model.modules())


@pytest.mark.slow
def test_the_loss_falls_where_the_llm_attends_to_media(shelf: Shelf, tmp_path: Path) -> None:
    fusion = FusionSettings(["image"], every=1, heads=2, head_width=4)
    model = sweep(base(shelf) | {"backbone": CausalBackbone(shelf("llama"), SIGNALS, LORA, fusion=fusion)}, tmp_path)
    assert "fusion" in model.parts()
