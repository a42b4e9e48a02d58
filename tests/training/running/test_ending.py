"""What ends a stage, what doesn't, and that a run which ends before its time goes on as if it hadn't."""

from __future__ import annotations

import json
import logging
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.utilities.exceptions import SIGTERMException
from runs import NAMES, STEPS, fit

from isthmus.model import AnyToAny
from isthmus.training import StageSwitch

Whole = tuple[Path, AnyToAny, list[float]]


class At(pl.Callback):
    """Does something in a step."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step - 1 and self.what.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self.what))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step != self.step:
            return
        if self.what == "stop":
            trainer.should_stop = True
        elif self.what == "error":
            raise RuntimeError("the GPU fell off the bus")
        elif self.what == "max_time":  # an hour passes
            next(each for each in trainer.callbacks if isinstance(each, Timer))._offset = 3600.0


def bundles(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/manifest.json"))


def switch_of(model: AnyToAny) -> StageSwitch:
    return next(each for each in model.trainer.callbacks if isinstance(each, StageSwitch))


def goes_on(experts: dict[str, Path], folder: Path, whole: Whole, steps: int) -> None:
    """From ``last.ckpt`` the rest is learnt, bit for bit."""
    _, model, losses = whole
    last = folder / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == steps
    resumed, diary = fit(experts, folder, resume=str(last))
    assert diary.losses == losses[steps:]
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())
    assert bundles(folder)[:1] and not switch_of(resumed).unfinished


@pytest.mark.slow
# Within a stage, at the last batch of two, and within the last: all by one end, and each other end at one of them.
@pytest.mark.parametrize(
    ("end", "steps"),
    [
        *(("SIGTERM", steps) for steps in (3, 5, 9, 14)),
        *(("max_steps", 5), ("max_steps", 14), ("max_time", 9), ("stop", 3), ("SIGINT", 5), ("SIGINT", 14)),
    ],
)
def test_a_run_that_ends_before_its_time_goes_on(
    end: str, steps: int, experts: dict[str, Path], whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"max_steps": steps} if end == "max_steps" else {"extra": [At(steps, end)]}
    options |= {"max_time": timedelta(hours=1)} if end == "max_time" else {}
    caplog.set_level(logging.INFO, "isthmus")
    if end == "SIGTERM":
        with pytest.raises(SIGTERMException):
            fit(experts, tmp_path, **options)
    else:
        _, diary = fit(experts, tmp_path, **options)
        assert len(diary.losses) == steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    over = {3: 0, 5: 1, 9: 2, 14: 2}[steps]
    assert bundles(tmp_path) == sorted(NAMES[:over])
    entered = [line for line in caplog.messages if line.startswith("entered")]
    assert len(entered) == (2 if steps in (9,) else 3 if steps == 14 else 1)
    told = caplog.messages[-1]
    assert {"SIGINT": "Ctrl-C", "stop": "a callback"}.get(end, end) in told
    assert NAMES[over] in told and f"last.ckpt holds all {steps} steps" in told
    goes_on(experts, tmp_path, whole, steps)


def test_ctrl_c_doesnt_wait_for_a_validation(experts: dict[str, Path], tmp_path: Path) -> None:
    class Validated(pl.Callback):
        batches = 0

        def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            self.batches += 1

    seen = Validated()
    extra = [seen, At(2, "SIGINT")]
    model, diary = fit(experts, tmp_path, extra=extra, validates=True, num_sanity_val_steps=0)
    assert len(diary.losses) == 2 and seen.batches == 0 and switch_of(model).unfinished == NAMES
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_an_exception_leaves_the_last_checkpoint(
    experts: dict[str, Path], whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="bus"):
        fit(experts, tmp_path, extra=[At(2, "error")])
    assert caplog.messages[-1].startswith("RuntimeError ended the run: stage 'encoder_alignment' isn't over (2 of 5")
    assert not bundles(tmp_path)
    assert [path.stem for path in (tmp_path / "checkpoints").iterdir()] == ["step=1"]


def test_a_limit_that_isnt_the_stages_own_is_refused(experts: dict[str, Path], tmp_path: Path) -> None:
    for limit in ({"limit_train_batches": 1}, {"limit_train_batches": 0.5}, {"overfit_batches": 2}):
        with pytest.raises(ValueError, match=r"limit_train_batches: found .*Fix: set training.stages.NAME.steps"):
            fit(experts, tmp_path, **limit)
    with pytest.raises(ValueError, match=r"trainer.max_epochs: found 2.*Fix: set training.stages.NAME.epochs"):
        fit(experts, tmp_path, max_epochs=2)
    assert not list(tmp_path.iterdir())


def test_early_stopping_ends_its_stage_and_the_next_begins(experts: dict[str, Path], tmp_path: Path) -> None:
    """Each stage has its own patience: two validations without an improvement of so much."""
    stopping = EarlyStopping("validation/loss", patience=1, min_delta=1e9, check_on_train_epoch_end=False)
    model, diary = fit(experts, tmp_path, extra=[stopping], validates=True, val_check_interval=1)
    assert diary.stages == [name for name in NAMES for _ in range(2)]
    assert bundles(tmp_path) == sorted(NAMES) and not switch_of(model).unfinished


def test_a_loss_that_diverges_is_no_end_of_a_stage(experts: dict[str, Path], tmp_path: Path) -> None:
    stopping = EarlyStopping("validation/loss", divergence_threshold=0.0, check_on_train_epoch_end=False)
    model, _ = fit(experts, tmp_path, extra=[stopping], validates=True, val_check_interval=2)
    assert switch_of(model).unfinished == NAMES and not bundles(tmp_path)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_trial_run_goes_through_all_stages_and_writes_nothing(
    batches: int, experts: dict[str, Path], whole: Whole, tmp_path: Path
) -> None:
    folder, _, _ = whole
    cache = tmp_path / "cache"
    _, diary = fit(experts, tmp_path, fast_dev_run=batches, validates=True, cache=str(cache))
    assert diary.stages == [name for name in NAMES for _ in range(batches)]
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"fast_dev_run: found it with --ckpt_path.*Fix"):
        fit(experts, tmp_path, fast_dev_run=True, resume=str(folder / "checkpoints" / "step=3.ckpt"))


def test_the_weights_of_a_stage_are_those_of_all_its_batches(whole: Whole) -> None:
    folder, _, _ = whole
    assert [json.loads((folder / name / "manifest.json").read_text())["stage"] for name in NAMES] == NAMES
    assert sum(STEPS.values()) == len(whole[2])
