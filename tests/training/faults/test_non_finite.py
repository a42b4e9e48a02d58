"""Steps whose loss or gradient isn't finite change nothing, are counted, and are told by their conversations."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from runs import fit
from torch import nn
from training.faults.poison import Poison

from isthmus.training import SkipNonFinite
from isthmus.training.faults import non_finite
from isthmus.training.faults.non_finite import RECORD
from isthmus.training.stage import OptimizerCallable
from isthmus.training.touching import touched

FIRST = ["encoder_alignment"]
OPTIMIZERS = {
    "AdamW": partial(torch.optim.AdamW, lr=1e-2),
    "fused": partial(torch.optim.AdamW, lr=1e-2, fused=True),
    "SGD": partial(torch.optim.SGD, lr=1e-2, momentum=0.9, weight_decay=0.1),
}


class States(pl.Callback):
    """Keeps what is learnt and the optimizer's state after every step."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        found = {name: own.detach().clone() for name, own in pl_module.named_parameters() if own.requires_grad}
        for place, state in trainer.optimizers[0].state_dict()["state"].items():
            found |= {f"{place}.{name}": own.clone() for name, own in state.items() if own is not None}
        self.kept.append(found)
        self.losses.append(float(outputs["loss"]))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(own, second[name]) for name, own in first.items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_bad_step_changes_nothing_and_names_its_data(
    optimizer: OptimizerCallable, experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states, skips = States(), SkipNonFinite()
    fit(experts, tmp_path, FIRST, extra=[Poison({2, 3}), skips, states], optimizer=optimizer, saves=False)
    assert [math.isfinite(loss) for loss in states.losses] == [True, False, False, True, True]
    assert [same(*pair) for pair in zip(states.kept, states.kept[1:], strict=False)] == [True, True, False, False]
    assert all(bool(own.isfinite().all()) for own in states.kept[-1].values())
    assert skips.skipped == 2
    told = [line for line in caplog.messages if "isn't finite" in line]
    assert len(told) == 2 and told[1].endswith("skipped: 2 so far, 2 in a row")
    record = [json.loads(line) for line in (tmp_path / RECORD).read_text().splitlines()]
    assert [line["step"] for line in record] == [2, 3]
    (share,) = record[0]["processes"]
    assert len(share["conversations"]) == 8 and all(name.startswith("describe/") for name in share["conversations"])
    assert share["loss"] is None and share["conversations"][0] in told[0]


def test_too_many_in_a_row_end_the_run_from_good_weights(
    experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states = States()
    extra = [Poison({2, 3, 4}), SkipNonFinite(in_a_row=2), states]
    with pytest.raises(ValueError, match=r"step 3: .*found 2 such steps in a row; expected fewer than 2.*Fix: look"):
        fit(experts, tmp_path, FIRST, extra=extra)
    assert len(states.kept) == 2 and same(*states.kept)
    assert caplog.messages[-1].startswith("ValueError ended the run: stage 'encoder_alignment' isn't over")
    kept = torch.load(tmp_path / "checkpoints/step=2.ckpt", weights_only=True)
    assert all(bool(own.isfinite().all()) for own in kept["state_dict"].values() if own.is_floating_point())


def test_counts_go_on_after_a_restart(experts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="pulled"):
        fit(experts, tmp_path, FIRST, extra=[Poison({2, 3}), SkipNonFinite(), _Pulled()])
    skips = SkipNonFinite(in_a_row=3)
    last = str(tmp_path / "checkpoints/step=3.ckpt")
    with pytest.raises(ValueError, match="found 3 such steps in a row"):
        fit(experts, tmp_path / "again", FIRST, extra=[Poison({4}), skips], resume=last)
    assert skips.skipped == 3


class _Pulled(pl.Callback):
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            raise RuntimeError("the plug was pulled")


def test_a_scalers_own_search_isnt_counted_and_a_bad_loss_is(experts: dict[str, Path], tmp_path: Path) -> None:
    """Gradients overflow at the scales 2^120 and 2^60 in steps 1 and 2, and are finite at 1; step 4 is spoilt."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, backoff_factor=2.0**-60)
    states, skips = States(), SkipNonFinite()
    extra, plugins = [Poison({4}), skips, states], [MixedPrecision("16-mixed", "cpu", scaler)]
    fit(experts, tmp_path, FIRST, denoising=0.0, extra=extra, plugins=plugins, saves=False)
    assert [same(*pair) for pair in zip(states.kept, states.kept[1:4], strict=False)] == [True, False, True]
    assert skips.skipped == 1


def test_a_loss_that_isnt_finite_makes_every_gradient_so() -> None:
    """A loss may be infinite where its gradient is 1: the process would learn, and others couldn't know."""
    reached, other = nn.Parameter(torch.tensor([torch.inf])), nn.Parameter(torch.ones(2))
    touched(reached.sum(), [reached, other]).backward()
    assert reached.grad is not None and other.grad is not None
    assert bool(reached.grad.isnan().all()) and bool(other.grad.isnan().all())


def test_a_fused_optimizer_under_a_scaler_skips(experts: dict[str, Path], tmp_path: Path) -> None:
    states, skips = States(), SkipNonFinite()
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=16.0))]
    options: dict[str, Any] = {"gradient_clip_val": None, "optimizer": OPTIMIZERS["fused"], "plugins": plugins}
    fit(experts, tmp_path, FIRST, denoising=0.0, extra=[Poison({3}), skips, states], saves=False, **options)
    assert [same(*pair) for pair in zip(states.kept, states.kept[1:], strict=False)] == [False, True, False, False]
    assert skips.skipped == 1


class _Spoilt(pl.Callback):
    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        for own in pl_module.parameters():
            if own.grad is not None:
                own.grad.fill_(math.nan)


def test_a_loss_is_told_without_its_scale(experts: dict[str, Path], tmp_path: Path) -> None:
    states = States()
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=0.5, backoff_factor=0.5))]
    extra = [_Spoilt(), SkipNonFinite(), states]
    fit(experts, tmp_path, FIRST, denoising=0.0, extra=extra, plugins=plugins, saves=False)
    told = [json.loads(line)["processes"][0]["loss"] for line in (tmp_path / RECORD).read_text().splitlines()]
    assert told == pytest.approx(states.losses)


def test_a_run_that_logs_nothing_is_ended_too(
    experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(non_finite, "MOST", 2)
    states = States()
    extra = [states, Poison({1, 2}), SkipNonFinite(in_a_row=2)]
    options: dict[str, Any] = {"optimizer": OPTIMIZERS["fused"], "log_every_n_steps": 0}
    with pytest.raises(ValueError, match="found 2 such steps in a row"):
        fit(experts, tmp_path, FIRST, extra=extra, saves=False, **options)
    assert len(states.losses) == 2


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in_a_row: found 0; expected at least 1"):
        SkipNonFinite(in_a_row=0)


def test_a_command_line_run_has_one() -> None:
    from pytorch_lightning.cli import LightningArgumentParser

    from isthmus.cli.companions import companions

    parser = LightningArgumentParser()
    parser.add_lightning_class_args(pl.Trainer, "trainer")
    configured = parser.instantiate_classes(parser.parse_args([])).trainer
    assert any(isinstance(each, SkipNonFinite) for each in companions(configured))
