"""Sets of the embedded world with other parts: they compose beside it, every stage is theirs, and runs learn."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_world import tiny_clone

from isthmus import cli
from isthmus.backbones.base import Sampling
from isthmus.cli.training import Command
from isthmus.encoders.c_former.encoder import CFormer
from isthmus.encoders.c_former.model import CFormerConfig, CFormerModel
from isthmus.encoders.checkpoint import save_checkpoint
from isthmus.input_projectors import CFormerProjector, PFormer, QFormer
from isthmus.model import AnyToAny
from isthmus.pocket.experts.language import bert
from isthmus.pocket.world import DIGITS, Concept, draw_audio
from isthmus.training import StageSwitch
from isthmus.training.trainable import select_parts
from isthmus.types import Modality

SETS = ("experts/pocket_c_former.yaml", "experts/pocket_p_former.yaml")
C_FORMER = CFormerConfig(bins=16, width=8, layers=1, heads=2, feed_forward=8, kernel=3, channels=4, pieces=DIGITS)
BESIDE = {
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "limit_val_batches": 0,
        "logger": {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "logs"}},
        "callbacks": [],
    },
    "model": {"backbone": {"init_args": {"max_length": 900}}},
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny experts where the configs look for the embedded ones."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    torch.manual_seed(0)
    save_checkpoint(
        folder / "checkpoints" / "pocket-c_former", "c_former", C_FORMER, CFormerModel(C_FORMER).state_dict()
    )
    bert.write(folder / "checkpoints" / "pocket" / "bert")
    (folder / "beside.yaml").write_text(yaml.safe_dump(BESIDE))
    return folder


@pytest.fixture(autouse=True)
def _in_the_clone(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setattr(sys, "argv", ["train.py"])


@pytest.mark.parametrize("name", SETS)
def test_every_stage_finds_its_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Command, "fit", lambda self, **_: None)
    command = Command(["fit", "-c", name, "--trainer.accelerator", "cpu"])
    (switch,) = [callback for callback in command.trainer.callbacks if isinstance(callback, StageSwitch)]
    model = command.model
    model.configure_model()
    assert {"encoder_alignment", "decoder_alignment", "instruction_tuning"} <= set(switch.stages)
    for stage_name, stage in switch.stages.items():
        assert select_parts(model, stage.trains, stage_name)
    assert model.input_side is not None
    if name == SETS[0]:
        assert isinstance(model.input_side.encoder(Modality.AUDIO), CFormer)
        assert isinstance(model.input_side.projector(Modality.AUDIO), CFormerProjector)
        return
    assert isinstance(model.input_side.teacher, PFormer) and switch.names == ["teaching", "encoder_alignment"]
    for modality in model.inputs:
        projector = model.input_side.projector(modality)
        assert isinstance(projector, QFormer) and projector.positions(1) == model.input_side.teacher.positions
    assert switch.stages["teaching"].losses.is_text_alone
    assert switch.stages["encoder_alignment"].losses.imitation == 10


@pytest.mark.slow
def test_a_run_with_the_c_former_hears_through_it(clone: Path) -> None:
    arguments = ["fit", "-c", SETS[0], "-c", "stage1.yaml", "-c", "beside.yaml", "--data.batch_size=4"]
    cli.train([*arguments, "--training.stages.encoder_alignment.steps=2", "--training.folder=runs/heard"])
    model = AnyToAny.from_checkpoint(clone / "runs" / "heard" / "encoder_alignment")
    tone = {"type": "audio", "audio": draw_audio(Concept(7), "test", np.random.default_rng(0))}
    asked = {"role": "user", "content": [tone, {"type": "text", "text": "what is it?"}]}
    assert model.chat([asked], sampling=Sampling(max_new_tokens=3)).tokens == 3
    assert model.input_side is not None and model.input_side.encoder(Modality.AUDIO).is_loaded


def column(folder: Path, name: str) -> list[float]:
    """A logged value along the run."""
    (file,) = folder.rglob("metrics.csv")
    with file.open(encoding="utf-8") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


@pytest.mark.slow
def test_stage_0_teaches_from_text_and_stage_1_imitates(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped experts, a few steps: the teacher's loss falls, then the distance to its prompts.

    Of its terms the distance to the words may rise at first: fresh prompts say nothing, and lie near the origin.
    """
    monkeypatch.chdir(repository)
    logs = {"trainer": BESIDE["trainer"] | {"logger": {"class_path": "pytorch_lightning.loggers.CSVLogger"}}}
    logs["trainer"]["logger"]["init_args"] = {"save_dir": str(tmp_path)}
    (tmp_path / "beside.yaml").write_text(yaml.safe_dump(logs))
    steps = ["--training.stages.teaching.steps=30", "--training.stages.encoder_alignment.steps=30"]
    options = ["--data.batch_size=16", f"--training.folder={tmp_path / 'run'}"]
    cli.train(["fit", "-c", SETS[1], "-c", str(tmp_path / "beside.yaml"), *steps, *options])
    for name in ("text", "contrastive"):
        values = column(tmp_path, f"train/teaching_{name}")
        assert len(values) == 30 and sum(values[-5:]) < 0.9 * sum(values[:5]), name
    media = [column(tmp_path, f"train/imitation_{medium}") for medium in ("image", "audio", "video", "points")]
    distances = [sum(values) for values in zip(*media, strict=True)]
    assert len(distances) == 30 and sum(distances[-5:]) < 0.6 * sum(distances[:5])
    total = column(tmp_path, "train/loss")[:30]
    assert sum(total[-5:]) < 0.9 * sum(total[:5])
    assert (tmp_path / "run" / "teaching" / "manifest.json").is_file()
