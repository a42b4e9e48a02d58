"""A rehearsal on fake tensors: it needs no weights, costs what a real step costs, and names what doesn't fit."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from benchmarks.measuring import PeakMemory
from tiny_world import tiny_experts, tiny_model
from torch import Tensor, nn

from isthmus.data.module import ConversationDataModule
from isthmus.input_projectors import Linear
from isthmus.input_projectors.base import InputProjector
from isthmus.modalities import known_media
from isthmus.model import AnyToAny
from isthmus.training import GroupPolicy, LossWeights, Preference, Stage, StageSwitch, TrainingModule
from isthmus.training.rehearsal import Report, rehearse
from isthmus.training.rehearsal.conversations import conversations_of, medium
from isthmus.training.rehearsal.trial import trainer_of
from isthmus.training.rewards import Brevity
from isthmus.types import Features

ROWS, WORDS = 5, 4
WHERE = r"stage 'reads', input_side\.projectors\.image"
BOTH = ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"]


def stage(trains: list[str], **options: Any) -> Stage:
    return Stage(trains, steps=3, batch_size=ROWS, **options)


STAGES = {
    "reads": stage(["input_projectors", "media_tags"]),
    "says": stage(["input_projectors"], losses=LossWeights(text=0.0, spelling=1.0)),
    "makes": stage(["output_projectors", "signal_rows"], losses=LossWeights(alignment=1.0)),
    "both": stage(BOTH, losses=LossWeights(alignment=1.0), micro_batches=2),
    "denoises": stage(["output_projectors"], losses=LossWeights(denoising=1.0)),
    "pairs": stage(BOTH[1:], objective=Preference(alignment=1.0), losses=LossWeights(alignment=1.0)),
    "drawn": stage(["lora"], objective=GroupPolicy({"brevity": Brevity()})),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same folders with their configuration files alone."""
    found = tiny_experts(tmp_path_factory.mktemp("bare"))
    for folder in found.values():
        for file in [*folder.rglob("*.safetensors"), *folder.rglob("*.bin")]:
            file.unlink()
    return found


def configured(precision: Any = "32-true") -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False)


def rehearsed(model: AnyToAny, *names: str, precision: Any = "32-true") -> Report:
    switch = StageSwitch(STAGES, list(names))
    return rehearse(model, switch, configured(precision), ROWS, WORDS)


@pytest.mark.slow
def test_every_kind_of_stage_and_an_answer_in_half_precision(bare: dict[str, Path]) -> None:
    half = dict.fromkeys(("llm", "encoders", "generators"), "bfloat16")
    model = tiny_model(bare, ("image", "audio", "points"), ("image",), dtypes=half)
    report = rehearsed(model, *STAGES, precision="bf16-mixed")
    assert list(report.stages) == ["reads", "says", "makes", "both", "denoises", "pairs"] and report.answer is not None
    assert any("drawn" in note for note in report.notes)
    reads, says, makes, both, denoises, pairs = report.stages.values()
    assert [step.rows for step in (reads, says, makes, both, denoises, pairs)] == [*[ROWS] * 5, 2 * ROWS]
    assert "LLM" not in says.flops and "encoder ImageBind" in says.flops
    assert {"encoder ImageBind", "encoder PointBert", "LLM"} <= set(reads.flops)
    assert "encoder ImageBind" not in makes.flops
    assert "StableDiffusion.text_encoder" in makes.flops and "StableDiffusion.unet" not in both.flops
    assert denoises.flops["StableDiffusion.unet"] > report.answer.flops["StableDiffusion.unet"] > 0
    assert report.parts["LLM"].weights < 4 * report.parts["LLM"].parameters  # bfloat16 but for what is trained
    assert json.loads(report.as_json())["stages"]["both"]["peak"] == both.peak
    assert "both: 5 rows" in report.as_text() and "input projector image" in report.as_text()


class Real(pl.Callback):
    """Measures the second step of a real run."""

    def __init__(self) -> None:
        self.memory, self.held, self._open = PeakMemory(), 0, ExitStack()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            own = [*pl_module.parameters(), *pl_module.buffers()]
            states = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
            inputs: list[Tensor] = []
            batch.apply(lambda tensor: inputs.append(tensor) or tensor)
            self.held = sum(t.nbytes for t in [*own, *states, *inputs])
            self._open.enter_context(self.memory)

    def on_train_batch_end(self, *_: Any) -> None:
        self._open.close()


@pytest.mark.parametrize("name", ["reads", "says", pytest.param("both", marks=pytest.mark.slow)])
def test_it_costs_what_a_real_step_costs(name: str, paths: dict[str, Path], bare: dict[str, Path]) -> None:
    """Parameters exactly, and peak memory within 3 %: kernels differ in what they keep for themselves."""
    media = ("image", "points"), ("image", "audio")
    report = rehearsed(tiny_model(bare, *media), name)
    model, real = tiny_model(paths, *media), Real()
    data = ConversationDataModule({name: conversations_of(model, STAGES[name], WORDS)}, batch_size=ROWS)
    own = replace(STAGES[name], data={name: 1.0}, steps=2)
    trainer = trainer_of(configured(), [StageSwitch({name: own}), real])
    trainer.fit(TrainingModule(model), datamodule=data)
    assert report.stages[name].peak == pytest.approx(real.memory.peak + real.held, rel=0.03)
    side = model.input_side
    assert side is not None
    assert report.parts["input projector image"].parameters == _size(side.projectors["image"])
    assert report.parts["encoder ImageBind"].parameters == _size(side.encoders[0])
    assert report.parts["LLM"].parameters == _size(model.backbone)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert sum(part.trained for part in report.parts.values()) == trained


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Widened(Linear):
    """A fault: one column too many."""

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        tokens, mask = super().forward(features)
        return torch.cat([tokens, tokens[..., :1]], -1), mask


class Halved(Linear):
    """A fault: a matrix of another type."""

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        tokens, mask = super().forward(features)
        return tokens @ tokens.new_zeros(tokens.shape[-1], tokens.shape[-1], dtype=torch.float64), mask


class Reading(Linear):
    """A fault: a value is read in the step."""

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        assert int(features.mask.sum()) > 0
        return super().forward(features)


@pytest.mark.parametrize(
    ("projector", "said"),
    [
        (Widened, r"stage 'reads'.*found a shape that doesn't fit.* Fix: make the sizes"),
        (Halved, rf"{WHERE} \(Halved\): found a type that doesn't fit.* Fix: let the part"),
        (Reading, rf"{WHERE} \(Reading\): found a value that is read.* Fix: let the data's workers"),
    ],
)
def test_a_fault_is_found_and_named(projector: type[InputProjector], said: str, bare: dict[str, Path]) -> None:
    model = tiny_model(bare, inputs=("image",), outputs=())
    assert model.input_side is not None
    model.input_side.factories["image"] = projector
    with pytest.raises(ValueError, match=said):
        rehearsed(model, "reads")


def test_a_checkpoint_whose_parts_dont_fit(bare: dict[str, Path], tmp_path: Path) -> None:
    """Of the denoiser alone, which nothing but an answer runs."""
    import shutil

    folder = shutil.copytree(bare["image"], tmp_path / "image")
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"in_channels": 5}))
    with pytest.raises(ValueError, match=r"an answer, output_side\.generators\.0\.unet\S* \(\w+\): found a shape.*Fix"):
        rehearsed(tiny_model(bare | {"image": folder}, inputs=(), outputs=("image",)), "makes")


def test_modules_move_again_afterwards(bare: dict[str, Path]) -> None:
    own = nn.Module._apply
    rehearsed(tiny_model(bare, inputs=("image",), outputs=()), "reads")
    assert nn.Module._apply is own and type(torch.ones(1)) is Tensor


def test_every_modality_has_a_medium_to_rehearse_with() -> None:
    for modality in known_media():
        assert medium(modality).modality is modality
