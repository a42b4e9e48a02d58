"""Warnings of collapse: real runs that collapse, and one that doesn't."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from runs import fit

from isthmus.training import CollapseWatch

DRAW, TUNE = "decoder_alignment", "instruction_tuning"
LENIENT = {"called": 0.0, "spread": 0.02, "text_rise": 5.0}


class Broken(pl.Callback):
    """Sets parts to a value before each step: a bridge that says the same of everything, an LLM that forgets."""

    def __init__(self, part: str, scale: float) -> None:
        self.part, self.scale = part, scale

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        generator = torch.Generator().manual_seed(batch_idx)
        with torch.no_grad():
            for name, own in pl_module.model.parts().items():
                if name.startswith(self.part):
                    for parameter in own.values():
                        parameter.copy_(self.scale * torch.randn(parameter.shape, generator=generator))


def watch(**changes: Any) -> CollapseWatch:
    return CollapseWatch(every_n_steps=1, after=0.3, looks=2, **{**LENIENT, **changes})


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name.endswith("watching.collapse")]


def test_a_constant_bridge_and_uncalled_signals_are_told_once_a_stage(
    experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = [watch(called=0.99), Broken("output_projectors", 0.0)]
    with caplog.at_level(logging.WARNING):
        fit(experts, tmp_path, [DRAW], saves=False, extra=callbacks)
    said = told(caplog)
    alike = [line for line in said if "H of image differs from prompt to prompt by 0.0 %" in line.replace("%", " %")]
    assert len(alike) == 1 and "(below 2%)" in alike[0] and "Try: raise the learning rate" in alike[0]
    called = [line for line in said if line.startswith("stage 'decoder_alignment', step ") and "signal token" in line]
    assert called and "(below 99%)" in called[0] and "Try: train signal_rows" in called[0]
    assert len(said) == len({line.partition(": ")[2].partition(" in ")[0] for line in said})


def test_a_language_model_that_forgets_is_told(
    experts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = [watch(plain="any_to_any", size=4, text_rise=0.25, spread=0.0), Broken("lora", 3.0)]
    with caplog.at_level(logging.WARNING):
        fit(experts, tmp_path, [TUNE], saves=False, denoising=0.0, extra=callbacks)
    (said,) = told(caplog)
    assert "the loss of plain text ('any_to_any') is" in said and "more than 0.25" in said and "replay" in said


def test_a_run_that_learns_is_left_alone_and_is_the_same_bit_for_bit(
    experts: dict[str, Path], tmp_path: Path, whole: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watching = watch(plain="any_to_any", size=4)
    with caplog.at_level(logging.WARNING):
        model, diary = fit(experts, tmp_path, saves=False, extra=[watching])
    assert told(caplog) == [] and diary.losses == whole[2]
    expected = whole[1].state_dict()
    assert all(torch.equal(own, expected[name]) for name, own in model.state_dict().items())
    assert {"text_rise", "spread_image", "called_image"} <= watching._seen.keys()
    assert not any(own._forward_hooks for own in model.output_side.projectors.values())


def test_a_run_that_goes_on_within_a_stage_is_watched(experts: dict[str, Path], tmp_path: Path, whole: Any) -> None:
    folder, _, losses = whole
    watching = watch(plain="any_to_any", size=4)
    checkpoint = str(folder / "checkpoints" / "step=11.ckpt")  # two steps into the last stage
    _, diary = fit(experts, tmp_path, resume=checkpoint, saves=False, extra=[watching])
    assert diary.losses == losses[11:] and len(watching._seen["text_rise"]) == watching.looks


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every_n_steps": 0}, r"CollapseWatch.every_n_steps: found 0; expected at least 1. Fix"),
        ({"spread": 2.0}, r"CollapseWatch.spread: found 2.0; expected a share from 0 to 1. Fix"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CollapseWatch(**options)


def test_a_source_that_has_no_plain_text_is_refused(experts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found no source 'gone' under data; expected one of .*describe.*Fix"):
        fit(experts, tmp_path / "one", [TUNE], saves=False, extra=[watch(plain="gone")])
    with pytest.raises(ValueError, match=r"plain: found no conversation without media among the first 30 of 'draw'"):
        fit(experts, tmp_path / "two", [TUNE], saves=False, extra=[watch(plain="draw")])
