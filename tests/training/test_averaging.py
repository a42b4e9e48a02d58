"""An average of what a stage trains: its values, where it is used, and that a resumed run has the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy
from runs import NAMES, data, fit, stages
from tiny_world import tiny_model

from isthmus.model.bundle import read_components
from isthmus.training import Stage, StageSwitch, TrainingModule
from isthmus.training.averaging import KEY
from isthmus.training.checks import check_sharded

DECAY = 0.7
STAGES = ["encoder_alignment", "instruction_tuning"]
Weights = dict[str, torch.Tensor]


class Kept(pl.Callback):
    """What trains, after each step, in each validation, and at each stage's first batch."""

    def __init__(self) -> None:
        self.steps: list[Weights] = []
        self.validated: list[Weights] = []
        self.begun: list[Weights] = []
        self.module: Any = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.begun.append({name: own.detach().clone() for name, own in pl_module.named_parameters()})

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.module = pl_module
        self.steps.append(trained(pl_module))

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.validated.append(trained(pl_module))


def trained(module: TrainingModule) -> Weights:
    return {name: own.detach().clone() for name, own in module.named_parameters() if own.requires_grad}


def average(steps: list[Weights]) -> Weights:
    """By hand, in float64."""
    found = {name: own.double() for name, own in steps[0].items()}
    for step in steps[1:]:
        found = {name: DECAY * found[name] + (1 - DECAY) * own.double() for name, own in step.items()}
    return found


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, own in found.items():
        torch.testing.assert_close(own.double(), expected[name], atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def averaged(
    experts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Weights, list[float], Kept]:
    folder, kept = tmp_path_factory.mktemp("averaged"), Kept()
    options: dict[str, Any] = {"validates": True, "num_sanity_val_steps": 0, "val_check_interval": 3}
    options |= {"check_val_every_n_epoch": None}
    model, diary = fit(experts, folder, STAGES, ema=DECAY, extra=[kept], **options)
    return folder, dict(model.state_dict()), diary.losses, kept


def test_a_stages_weights_are_the_average_of_its_steps(averaged: Any) -> None:
    """Validation sees it, the stage saves it, and the next one begins with it."""
    folder, final, _, kept = averaged
    first, second = average(kept.steps[:5]), average(kept.steps[5:])
    assert_close(kept.validated[0], average(kept.steps[:3]))
    assert len(kept.validated) == 3
    assert_close(kept.validated[1], average(kept.steps[5:6]))
    assert_close(kept.validated[2], average(kept.steps[5:9]))
    assert_close({name: kept.begun[1][name] for name in first}, first)
    assert_close({f"model.{name}": own for name, own in final.items() if f"model.{name}" in second}, second)
    saved = read_components(folder / STAGES[0])["input_projectors.image"]
    begun = [own for name, own in first.items() if "input_side.projectors.image" in name]
    assert {round(float(own.double().sum()), 4) for own in saved.values()} == {
        round(float(own.sum()), 4) for own in begun
    }
    assert any(not torch.equal(own.float(), kept.steps[4][name]) for name, own in first.items())


@pytest.mark.parametrize("step", [2, 5, 8])  # within a stage, at its last batch, and within the next
def test_a_resumed_run_has_the_same_average(step: int, averaged: Any, experts: dict[str, Path], tmp_path: Path) -> None:
    folder, final, losses, _ = averaged
    model, diary = fit(experts, tmp_path, STAGES, ema=DECAY, resume=str(folder / "checkpoints" / f"step={step}.ckpt"))
    assert diary.losses == losses[step:]
    assert all(torch.equal(own, final[name]) for name, own in model.state_dict().items())


def test_a_checkpoint_holds_both_and_is_measured_by_the_average(
    averaged: Any, experts: dict[str, Path], tmp_path: Path
) -> None:
    """Of what trains alone: nothing frozen is in it."""
    folder, _, _, kept = averaged
    path = folder / "checkpoints" / "step=3.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    assert_close(checkpoint[KEY]["tensors"], average(kept.steps[:3]))
    assert checkpoint[KEY]["steps"] == 3
    assert all(torch.equal(checkpoint["state_dict"][name], own) for name, own in kept.steps[2].items())
    module = TrainingModule(tiny_model(experts))
    switch = StageSwitch(stages(), ["encoder_alignment"], tmp_path)
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[switch], enable_progress_bar=False)
    trainer.validate(module, datamodule=data(validates=True), ckpt_path=str(path), weights_only=True, verbose=False)
    state = dict(module.named_parameters())
    assert_close({name: state[name].detach() for name in kept.steps[2]}, average(kept.steps[:3]))


def test_an_error_in_a_validation_leaves_the_weights_that_learn(experts: dict[str, Path], tmp_path: Path) -> None:
    class Breaks(Kept):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            raise RuntimeError("broken")

    breaks = Breaks()
    options: dict[str, Any] = {"validates": True, "num_sanity_val_steps": 0, "val_check_interval": 2, "saves": False}
    with pytest.raises(RuntimeError, match="broken"):
        fit(experts, tmp_path, NAMES[:1], ema=DECAY, extra=[breaks], **options)
    assert len(breaks.steps) == 2
    assert all(torch.equal(own, breaks.steps[1][name]) for name, own in trained(breaks.module).items())


def test_what_shards_otherwise_is_refused() -> None:
    trainer, stage = pl.Trainer(accelerator="cpu", logger=False), Stage(["lora"], steps=1, ema=0.9)
    trainer._accelerator_connector.strategy = FSDPStrategy()
    with pytest.raises(ValueError, match=r"found FSDPStrategy; expected isthmus.training.engines.Sharded.*Fix: -c"):
        check_sharded(trainer, stage, "tuning")
    trainer._accelerator_connector.strategy = object.__new__(DeepSpeedStrategy)
    with pytest.raises(ValueError, match=r"stage 'tuning': found ema under DeepSpeedStrategy.*Fix: -c"):
        check_sharded(trainer, stage, "tuning")
