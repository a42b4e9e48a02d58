"""Which parameter learns in which group."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from runs import data
from tiny_world import tiny_model

from isthmus.backbones import LoraSettings
from isthmus.model import AnyToAny
from isthmus.training import LossWeights, Stage, StageSwitch, TrainingModule
from isthmus.training.parameter_groups import Group, grouped, plan_groups
from isthmus.training.trainable import check_optimizer, set_trainable

TRAINS = ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"]
GROUPS = {
    "input_projectors": Group(lr=3.0),
    "input_projectors.audio": Group(lr=4.0, weight_decay=0.4),
    "lora": Group(weight_decay=0.2),
    "signal_rows": Group(weight_decay=0.1),
}


@pytest.fixture
def model(experts: dict[str, Path]) -> AnyToAny:
    made = tiny_model(experts, outputs=("image",), lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0))
    made.configure_model()
    set_trainable(made, TRAINS, "tuning")
    return made


def optimizer(model: AnyToAny, groups: dict[str, Group]) -> torch.optim.Optimizer:
    """AdamW at rate 1 and decay 0.5, in the groups of a stage."""
    planned = plan_groups(model, TRAINS, groups, "tuning")
    return grouped(model, partial(torch.optim.AdamW, lr=1.0, weight_decay=0.5), planned, "tuning")


def settings(model: AnyToAny, groups: dict[str, Group]) -> dict[str, tuple[str, float, float]]:
    """Parameter -> its group's name, rate and decay."""
    made = optimizer(model, groups)
    held = [id(own) for group in made.param_groups for own in group["params"]]
    assert len(held) == len(set(held))
    check_optimizer(model, set(held), "tuning")
    names = {id(own): name for name, own in model.named_owned()}
    return {
        names[id(own)]: (group["name"], group["lr"], group["weight_decay"])
        for group in made.param_groups
        for own in group["params"]
    }


def test_one_line_suffices_and_vectors_and_rows_dont_decay(model: AnyToAny) -> None:
    found = settings(model, {})
    assert {own[:2] for own in found.values()} == {("all", 1.0), ("all/undecayed", 1.0)}
    decays = {name for name, (_, _, decay) in found.items() if decay}
    assert {found[name][2] for name in decays} == {0.5}
    own = dict(model.named_owned())
    assert decays == {
        name for name, tensor in own.items() if tensor.ndim > 1 and not name.startswith(("media_tags", "signal_rows"))
    }
    assert any(name.startswith("lora") for name in decays)
    assert any(name.endswith("bias") for name in found.keys() - decays)
    assert {"signal_rows:0", "signal_rows:1", "media_tags:0"} <= found.keys() - decays


def test_the_most_specific_name_counts(model: AnyToAny) -> None:
    found = settings(model, GROUPS)
    own = dict(model.named_owned())
    for name, (group, rate, decay) in found.items():
        part, is_vector = name.split(":")[0], own[name].ndim < 2
        if part == "input_projectors.audio":
            assert (group, rate, decay) == (
                ("input_projectors.audio/undecayed", 4.0, 0.0) if is_vector else ("input_projectors.audio", 4.0, 0.4)
            )
        elif part.startswith("input_projectors"):
            assert (rate, decay) == (3.0, 0.0 if is_vector else 0.5)
        elif part in ("lora", "signal_rows"):
            assert (group, rate, decay) == (part, 1.0, GROUPS[part].weight_decay)
        else:
            assert group.startswith("rest") and rate == 1.0
            assert decay == (0.0 if is_vector or part == "media_tags" else 0.5)


def test_groups_come_in_the_same_order_whatever_the_configs(model: AnyToAny) -> None:
    turned = dict(reversed(GROUPS.items()))
    names = [[group["name"] for group in optimizer(model, groups).param_groups] for groups in (GROUPS, turned)]
    assert names[0] == names[1] and len(set(names[0])) == len(names[0])


def test_scaling_vectors_dont_decay_whatever_their_shape(experts: dict[str, Path]) -> None:
    made = tiny_model({"llama": experts["llama"]}, (), (), LoraSettings(method="ia3"))
    made.configure_model()
    assert any(own.ndim == 2 for own in made.parts()["lora"].values())
    (group,) = plan_groups(made, ["lora"], {}, "tuning")
    assert group.name == "all/undecayed"


@pytest.mark.parametrize("name", ["output_projectors", "input_projectors.smell", "input_proj"])
def test_a_group_of_what_doesnt_train_is_refused(model: AnyToAny, name: str) -> None:
    trains = ["input_projectors", "lora"]
    with pytest.raises(
        ValueError, match=rf"stage 'tuning': groups names '{name}'.*it trains input_projectors.image.*lora"
    ):
        plan_groups(model, trains, {name: Group(lr=1.0)}, "tuning")


def test_a_group_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="without lr and weight_decay"):
        Group()
    with pytest.raises(ValueError, match="found lr -1"):
        Group(lr=-1.0)


def test_a_run_learns_logs_and_resumes_in_groups(experts: dict[str, Path], tmp_path: Path) -> None:
    """Each group's rate has its own curve, warm-up and decay included; a resumed run equals one never broken off."""
    rates: dict[str, list[float]] = {}

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            for name, value in trainer.callback_metrics.items():
                if name.startswith("lr-"):
                    rates.setdefault(name, []).append(float(value))
            trainer.save_checkpoint(tmp_path / f"{batch_idx}.ckpt")

    def run(resume: str | None) -> AnyToAny:
        stage = Stage(
            ["input_projectors", "lora"],
            LossWeights(),
            {"describe": 1.0},
            steps=4,
            batch_size=2,
            optimizer=partial(torch.optim.AdamW, lr=1e-2),
            groups={"lora": Group(lr=1e-3, weight_decay=0.0), "input_projectors.image": Group(lr=0.0)},
            warmup_ratio=0.0,
        )
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=pl.loggers.CSVLogger(tmp_path),
            log_every_n_steps=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            callbacks=[StageSwitch({"tuning": stage}, folder=tmp_path / "run"), LearningRateMonitor("step"), Rates()],
        )
        model = tiny_model(experts, outputs=(), lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.1), max_tokens=1024)
        trainer.fit(TrainingModule(model), datamodule=data(), ckpt_path=resume, weights_only=True)
        return model

    whole = run(None)
    assert rates["lr-AdamW/lora"] == pytest.approx([1e-3 * share for share in (1, 0.75, 0.5, 0.25)])
    assert rates["lr-AdamW/rest"] == rates["lr-AdamW/rest/undecayed"]
    assert rates["lr-AdamW/rest"] == pytest.approx([1e-2 * share for share in (1, 0.75, 0.5, 0.25)])
    fresh = tiny_model(experts, outputs=(), lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.1))
    fresh.configure_model()
    before, after = dict(fresh.named_owned()), dict(whole.named_owned())
    moved = {name.split(":")[0] for name, own in after.items() if not torch.equal(own, before[name])}
    assert moved == {"input_projectors.video", "input_projectors.audio", "input_projectors.points", "lora"}
    resumed = run(str(tmp_path / "1.ckpt"))
    assert all(torch.equal(own, after[name]) for name, own in resumed.named_owned())
