"""A trained model's folder, made of a checkpoint: the same files that the end of its stage writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import NAMES, fit
from tiny_world import tiny_model

from isthmus.backbones import LoraSettings
from isthmus.model import AnyToAny
from isthmus.training.checkpoints.bundling import bundle
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints
from isthmus.training.checkpoints.settings import CheckpointSettings

Whole = tuple[Path, AnyToAny, list[float]]


def model(experts: dict[str, Path]) -> AnyToAny:
    return tiny_model(experts, lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.1), max_tokens=1024)


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("distributed", [False, True], ids=["file", "folder"])
def test_a_checkpoints_bundle_is_its_stages(
    distributed: bool, experts: dict[str, Path], whole: Whole, tmp_path: Path
) -> None:
    checkpoint = whole[0] / "checkpoints" / "step=15.ckpt"
    if distributed:
        saving = RunCheckpoints(CheckpointSettings(distributed=True))
        saving.save_checkpoint(saving.load_checkpoint(checkpoint), tmp_path / "last.ckpt")
        checkpoint = tmp_path / "last.ckpt"
    made = bundle(checkpoint, tmp_path / "made", model=model(experts))
    assert weights(made) == weights(whole[0] / NAMES[-1])


def test_an_earlier_versions_names_are_known(experts: dict[str, Path], whole: Whole, tmp_path: Path) -> None:
    kept = torch.load(whole[0] / "checkpoints" / "step=15.ckpt", weights_only=True)
    built = model(experts)
    built.configure_model()
    earlier = {f"model.{path}": f"{part}:{name}" for part, own in built.owned().items() for name, path in own.items()}
    kept["state_dict"] = {earlier[name]: tensor for name, tensor in kept["state_dict"].items()}
    torch.save(kept, tmp_path / "last.ckpt")
    made = bundle(tmp_path / "last.ckpt", tmp_path / "made", model=model(experts))
    assert weights(made) == weights(whole[0] / NAMES[-1])


def test_it_holds_the_average(experts: dict[str, Path], tmp_path: Path) -> None:
    fit(experts, tmp_path, NAMES[:1], ema=0.5)
    made = bundle(tmp_path / "checkpoints" / "step=5.ckpt", tmp_path / "made", model=model(experts))
    assert weights(made) == weights(tmp_path / NAMES[0])


def test_what_cant_be_bundled_is_said(experts: dict[str, Path], whole: Whole, tmp_path: Path) -> None:
    checkpoint = whole[0] / "checkpoints" / "step=15.ckpt"
    with pytest.raises(ValueError, match=r"config.yaml: it can't be read.*Fix: name a checkpoint in its run's folder"):
        bundle(checkpoint, tmp_path / "made")
    other = tiny_model(experts, lora=LoraSettings(r=3, lora_alpha=4), max_tokens=1024)
    with pytest.raises(ValueError, match=r"step=15.ckpt: saved state 'lora.*another LoRA rank"):
        bundle(checkpoint, tmp_path / "made", model=other)
    with pytest.raises(ValueError, match=r"gone.ckpt: there is no such file. Fix"):
        bundle(tmp_path / "gone.ckpt", tmp_path / "made")
    assert not (tmp_path / "made").exists()
