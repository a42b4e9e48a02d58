"""Answers to fixed prompts while a model learns: as files, in each logger, and without a trace in the training."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from runs import fit
from tiny_world import tiny_experts

from isthmus.evaluation import Prompt, SampleLog
from isthmus.evaluation.samples.loggers import Sample, show
from isthmus.model import Reply
from isthmus.training.running.refused import check_loggers
from isthmus.types import Media, Modality

STAGES = ["encoder_alignment", "decoder_alignment"]


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_experts(tmp_path_factory.mktemp("experts"))


def samples() -> list[Sample]:
    """One medium of each kind that ships."""
    rng = np.random.default_rng(0)
    image = Media(Modality.IMAGE, rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    video = Media(Modality.VIDEO, rng.integers(0, 255, (3, 8, 8, 3), dtype=np.uint8), 4.0)
    audio = Media(Modality.AUDIO, rng.uniform(-1, 1, 400).astype(np.float32), 16_000.0)
    points = Media(Modality.POINTS, rng.uniform(0, 1, (20, 6)).astype(np.float32))
    depth = Media(Modality("depth"), rng.uniform(0, 1, (6, 5)).astype(np.float32))
    media = [image, video, audio, points, depth]
    return [Sample("show <b>all</b>", {Modality.IMAGE: Path("three.png")}, Reply(["here ", *media]))]


def test_training_goes_on_as_if_nothing_had_been_asked(experts: dict[str, Path], tmp_path: Path) -> None:
    """Bit for bit; a stage that makes no media has its generators released again."""
    expected, whole = fit(experts, tmp_path / "without", STAGES, saves=False, ema=0.9)
    asked = SampleLog([Prompt("draw it", require=["image"]), Prompt("hum", require=["audio"])], every_n_steps=2)
    model, diary = fit(experts, tmp_path / "with", STAGES[:], saves=False, ema=0.9, extra=[asked])
    assert diary.losses == whole.losses
    found = model.state_dict()
    assert all(torch.equal(own, found[name]) for name, own in expected.state_dict().items())
    assert {name: set(own._modules) for name, own in model.experts().items()} == {
        name: set(own._modules) for name, own in expected.experts().items()
    }
    assert not any(own.is_loaded for own in model.output_side.generators)
    assert any(own.conditioner_is_loaded for own in model.output_side.generators)
    folders = sorted(path.name for path in (tmp_path / "with" / "samples").iterdir())
    assert folders == [f"{STAGES[1]}-2", f"{STAGES[1]}-4", *[f"{STAGES[0]}-{step}" for step in (2, 4, 5)]]
    for folder in folders:
        files = sorted(path.name for path in (tmp_path / "with" / "samples" / folder).iterdir())
        assert "0_0_image.png" in files and any("audio.wav" in name for name in files) and "answers.md" in files


def test_answers_are_files_that_any_program_opens(tmp_path: Path) -> None:
    show([], samples(), tmp_path, 3)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("0_0_image.png", "0_1_video.gif", "0_2_audio.wav", "0_3_points.npy", "0_4_image.png", "answers.md")
    }
    assert (tmp_path / "answers.md").read_text() == "**[image three.png] show <b>all</b>**\n\nhere"


def test_tensorboard_shows_each_medium_beside_its_prompt(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    show([logger, CSVLogger(tmp_path)], samples(), tmp_path / "samples", 3)
    logger.finalize("success")
    events = EventAccumulator(str(logger.log_dir), size_guidance={"tensors": 0, "images": 0, "audio": 0})
    events.Reload()
    tags: dict[str, Any] = events.Tags()
    assert set(tags["images"]) == {"samples/0/0_image", "samples/0/1_video", "samples/0/4_image"}
    assert events.Images("samples/0/1_video")[0].encoded_image_string.startswith(b"GIF89a")
    assert tags["audio"] == ["samples/0/2_audio"] and events.Audio("samples/0/2_audio")[0].sample_rate == 16_000
    assert any("3_points" in tag for tag in tags["tensors"])
    text = events.Tensors("samples/0/text_summary")[0]
    assert text.step == 3 and b"show <b>all</b>" in text.tensor_proto.string_val[0]


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb isn't installed (pip install 'isthmus[loggers]')")
def test_wandb_takes_each_medium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="isthmus")
    trainer = pl.Trainer(accelerator="cpu", logger=logger)
    with pytest.raises(ValueError, match=r"found WandbLogger beside 2 forked .*Fix: set data.multiprocessing_context"):
        check_loggers(trainer, 2, "fork")
    check_loggers(trainer, 2, "forkserver")
    check_loggers(trainer, 0, "fork")
    show([logger], samples(), tmp_path / "samples", 3)
    summary = dict(logger.experiment.summary)
    logger.experiment.finish()
    kinds = {name: own["_type"] for name, own in summary.items() if name.startswith("samples/")}
    assert kinds["samples/text"] == "table-file" and kinds["samples/0/3_points"] == "object3D-file"
    assert kinds["samples/0/0_image"] == kinds["samples/0/4_image"] == "images/separated"
    assert kinds["samples/0/1_video"] == "videos" and kinds["samples/0/2_audio"] == "audio"


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow isn't installed (pip install 'isthmus[loggers]')")
def test_mlflow_keeps_the_files(tmp_path: Path) -> None:
    from pytorch_lightning.loggers import MLFlowLogger

    logger = MLFlowLogger(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", artifact_location=str(tmp_path / "kept"))
    show([logger], samples(), tmp_path / "tuning-3", 3)
    kept = {path.name for path in (tmp_path / "kept").rglob("samples/tuning-3/*")}
    assert {"answers.md", "0_0_image.png", "0_1_video.gif", "0_2_audio.wav", "0_3_points.npy"} <= kept


def test_a_prompt_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"prompts: found 'smell'; expected media: image, .*Fix"):
        Prompt("draw", require=["smell"])
    with pytest.raises(ValueError, match=r"SampleLog: found 0 prompts every 200 steps.*Fix"):
        SampleLog([])
