"""Figures of a few answers at each validation: what monitors them, and that training doesn't notice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from runs import fit

from isthmus.evaluation import PeriodicEvaluation
from isthmus.evaluation.metrics.base import Figure, Processes
from isthmus.evaluation.predictions.answered import Answered

STAGES = ["encoder_alignment", "decoder_alignment"]


class Counted:
    """The share of answers that are there: the same at each validation."""

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        assert all(own.source == "draw" and own.prompt and own.expected is not None for own in answers)
        return {"text/answered": Figure(1.0, len(answers), "higher")}


class SeesNothing:
    """A judge that can't read anything."""

    attributes = ("digit", "colour", "motion")

    def many(self, media: Any) -> list[dict[str, Any]]:
        return [{} for _ in media]


def test_any_figure_ends_a_stage_and_chooses_a_checkpoint(tiny_experts_paths: dict[str, Path], tmp_path: Path) -> None:
    name = "evaluation/draw/text/answered"
    measured = PeriodicEvaluation("draw", {"counted": Counted()}, size=3, batch_size=2, num_inference_steps=1)
    stops = EarlyStopping(name, mode="max", patience=1, check_on_train_epoch_end=False)
    best = ModelCheckpoint(tmp_path / "best", monitor=name, mode="max", filename="{step}")
    options = {"validates": True, "val_check_interval": 1, "num_sanity_val_steps": 0, "saves": False}
    extra = [measured, stops, best]
    _, diary = fit(tiny_experts_paths, tmp_path, STAGES[:], extra=extra, enable_checkpointing=True, **options)
    # Better at the first validation, and at the second no more: each stage ends there, with its weights.
    assert diary.stages == [STAGES[0]] * 2 + [STAGES[1]] * 2
    assert all((tmp_path / stage / "manifest.json").is_file() for stage in STAGES)
    assert best.best_model_score == 1.0 and Path(best.best_model_path).is_file()
    assert measured.figures.keys() >= {name, "evaluation/draw/image/made"}
    assert not (tmp_path / "evaluation/training").exists()


class Once:
    """A figure that the first validation's answers give, and no later ones."""

    def __init__(self) -> None:
        self.left = 1

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        self.left -= 1
        return {"image/fid": Figure(3.0, len(answers), "lower")} if self.left >= 0 else {}


def test_a_monitored_figure_that_answers_lack_counts_as_the_worst(
    tiny_experts_paths: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "evaluation/draw/image/fid"
    measured = PeriodicEvaluation("draw", {"once": Once()}, size=1, num_inference_steps=1)
    stops = EarlyStopping(name, mode="min", patience=1, check_on_train_epoch_end=False)
    best = ModelCheckpoint(tmp_path / "best", monitor=name, mode="min", save_on_train_epoch_end=False)
    options = {"validates": True, "val_check_interval": 1, "num_sanity_val_steps": 0, "saves": False}
    _, diary = fit(
        tiny_experts_paths, tmp_path, STAGES[:1], extra=[measured, stops, best], enable_checkpointing=True, **options
    )
    assert diary.stages == [STAGES[0]] * 2 and best.best_model_score == 3.0 and name not in measured.figures
    assert [f"found no {name}" in own.getMessage() for own in caplog.records if own.name.endswith("periodic")] == [True]


def test_training_goes_on_as_if_nothing_had_been_measured(tiny_experts_paths: dict[str, Path], tmp_path: Path) -> None:
    options = {"validates": True, "val_check_interval": 2, "num_sanity_val_steps": 0, "saves": False, "ema": 0.9}
    expected, plain = fit(tiny_experts_paths, tmp_path / "plain", STAGES[:1], **options)
    judges = {name: SeesNothing() for name in ("text", "image", "audio", "video")}
    measured = PeriodicEvaluation(
        "prompts", judges=judges, values={"digit": 10, "colour": 6, "motion": 4}, size=4, num_inference_steps=1
    )
    model, diary = fit(tiny_experts_paths, tmp_path / "measured", STAGES[:1], extra=[measured], **options)
    assert diary.losses == plain.losses
    found = model.state_dict()
    assert all(torch.equal(own, found[name]) for name, own in expected.state_dict().items())
    assert measured.figures["evaluation/prompts/matrix/digit"] == 0.0
    assert any("->" in name for name in measured.figures)


def test_what_cannot_be_measured_is_refused(tiny_experts_paths: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found size 0 and batch_size 8; expected at least 1.*Fix"):
        PeriodicEvaluation("draw", size=0)
    with pytest.raises(ValueError, match=r"values: found None for digit.*Fix"):
        PeriodicEvaluation("draw", judges={"text": SeesNothing()})
    with pytest.raises(ValueError, match=r"found no validation; expected some.*data.validation.*val_check_interval"):
        fit(tiny_experts_paths, tmp_path, STAGES[:1], saves=False, extra=[PeriodicEvaluation("draw")])
