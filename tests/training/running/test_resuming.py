"""Going on from a checkpoint under another configuration: each difference is said; what isn't safe is refused."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from runs import NAMES, data, fit, stages
from safetensors.torch import load_file, save_file
from tiny_world import tiny_model
from torch.optim.optimizer import register_optimizer_step_pre_hook

from isthmus.backbones import LoraSettings
from isthmus.earlier.options import present_names
from isthmus.model import AnyToAny
from isthmus.training import Stage, StageSwitch, TrainingModule
from isthmus.training.running.settings import KEY

Whole = tuple[Path, AnyToAny, list[float]]


def go_on(experts: dict[str, Path], folder: Path, at: int, changes: dict[str, Any], lora: LoraSettings | None) -> None:
    """Goes on with ``instruction_tuning`` changed, from a step of the whole curriculum."""
    known = stages()
    known[NAMES[-1]] = replace(known[NAMES[-1]], **changes)
    model = tiny_model(experts, lora=lora or LoraSettings(r=2, lora_alpha=4, lora_dropout=0.1), max_tokens=1024)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[StageSwitch(known, NAMES, folder / "resumed")],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
    )
    checkpoint = folder / "checkpoints" / f"step={at}.ckpt"
    trainer.fit(TrainingModule(model), datamodule=data(), ckpt_path=str(checkpoint), weights_only=True)


def differences(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.endswith("the new value is taken")]


def test_an_unchanged_run_says_nothing_but_where_it_goes_on(
    experts: dict[str, Path], whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    go_on(experts, whole[0], 13, {}, None)
    assert not differences(caplog)
    going = next(line for line in caplog.messages if line.startswith("going on"))
    assert going.endswith("step=13.ckpt: stage 'instruction_tuning', after step 13")


def test_a_checkpoint_of_earlier_names_is_understood(
    experts: dict[str, Path], whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = torch.load(whole[0] / "checkpoints" / "step=13.ckpt", weights_only=True)
    stored = checkpoint[KEY]
    earlier = present_names("isthmus.training.Stage")
    earlier |= {f"lora.{old}": f"lora.{new}" for old, new in present_names("isthmus.backbones.LoraSettings").items()}
    for old, new in earlier.items():
        stored[old] = stored.pop(new)
    (tmp_path / "checkpoints").mkdir()
    torch.save(checkpoint, tmp_path / "checkpoints" / "step=13.ckpt")
    caplog.set_level(logging.INFO, "isthmus")
    go_on(experts, tmp_path, 13, {}, None)
    assert not differences(caplog)


def test_a_new_learning_rate_is_in_force(
    experts: dict[str, Path], whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    """From the next step on, at its place in the schedule, in the optimizer as in the scheduler."""
    caplog.set_level(logging.INFO, "isthmus")
    scheduler = stages()[NAMES[-1]].scheduler(6)
    expected = []
    for step in (4, 5):
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        shares = scheduler(optimizer)
        assert isinstance(shares, torch.optim.lr_scheduler.LambdaLR)
        expected += [2e-3 * shares.lr_lambdas[0](step), 0.5]
    known = {"optimizer": partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.5)}
    taken: list[float] = []

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        taken.extend((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]))

    hook = register_optimizer_step_pre_hook(keep)
    try:
        go_on(experts, whole[0], 13, known, None)
    finally:
        hook.remove()
    assert taken == pytest.approx(expected, rel=1e-12)
    assert differences(caplog) == [
        "learning rate of all: the checkpoint has 0.01, this run 0.002; the new value is taken",
        "optimizer's weight_decay of all: the checkpoint has 0.01, this run 0.5; the new value is taken",
        "learning rate of all/undecayed: the checkpoint has 0.01, this run 0.002; the new value is taken",
    ]


def test_other_safe_changes_are_told(experts: dict[str, Path], whole: Whole, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    go_on(experts, whole[0], 13, {"lr_scheduler_type": "constant"}, LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0))
    assert [line.split(":")[0] for line in differences(caplog)] == ["lr_scheduler_type", "lora.lora_dropout"]


@pytest.mark.parametrize(
    ("changes", "lora", "expected"),
    [
        ({"optimizer": partial(torch.optim.SGD, lr=1e-2)}, {}, "optimizer: the checkpoint has AdamW, this run SGD"),
        ({"trains": ["lora"]}, {}, r"trains: the checkpoint has \['input_projectors'.*this run \['lora'\]"),
        ({}, {"lora_alpha": 8}, r"lora.lora_alpha: the checkpoint has 4, this run 8\. Fix"),
        ({}, {"method": "rslora"}, "lora.method: the checkpoint has lora, this run rslora"),
        ({"steps": 9}, {}, "data: the checkpoint has .* 6 steps of 8.*, this run .* 9 steps of 8"),
        ({"batch_size": 4}, {}, "data: the checkpoint has .* 6 steps of 8.*, this run .* 6 steps of 4"),
    ],
)
def test_what_would_mean_something_else_is_refused(
    changes: dict[str, Any], lora: dict[str, Any], expected: str, experts: dict[str, Path], whole: Whole
) -> None:
    settings = replace(LoraSettings(r=2, lora_alpha=4, lora_dropout=0.1), **lora)
    with pytest.raises(ValueError, match=f"checkpoint: it can't go on under another configuration.*{expected}"):
        go_on(experts, whole[0], 13, changes, settings)


def test_weights_of_another_lora_scale_are_refused(experts: dict[str, Path], tmp_path: Path) -> None:
    model = tiny_model(experts, lora=LoraSettings(r=2, lora_alpha=4))
    model.configure_model()
    folder = model.save(tmp_path / "stage", "tuning")
    for settings in (LoraSettings(r=2, lora_alpha=8), LoraSettings(r=2, lora_alpha=4, method="rslora")):
        other = tiny_model(experts, lora=settings)
        other.configure_model()
        with pytest.raises(ValueError, match=r"trained as method lora, r 2, lora_alpha 4; this model has .*Fix"):
            other.load(folder)
    same = tiny_model(experts, lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.5))
    same.configure_model()
    same.load(folder)


def test_a_python_run_takes_its_folder_alone(experts: dict[str, Path], tmp_path: Path) -> None:
    other = StageSwitch({"tuning": Stage(["lora"], steps=1)}, folder=tmp_path)
    other.lock.acquire()
    with pytest.raises(ValueError, match="held by a run that goes on"):
        fit(experts, tmp_path, NAMES[:1])
    other.lock.release()
    fit(experts, tmp_path, NAMES[:1], saves=False)


def test_an_expert_with_other_weights_is_refused_and_a_moved_one_isnt(
    experts: dict[str, Path], whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    moved = {name: Path(shutil.copytree(path, tmp_path / name)) for name, path in experts.items()}
    go_on(moved, whole[0], 13, {}, None)
    assert not differences(caplog)

    other = Path(shutil.copytree(experts["image"], tmp_path / "other"))
    weights = next((other / "vae").glob("*.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(
        ValueError, match=r"expert generator\.image: the checkpoint has \w+ \(image\), this run \w+ \(other\)"
    ):
        go_on(experts | {"image": other}, whole[0], 13, {}, None)
