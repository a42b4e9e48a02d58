"""A bundle is opened beside experts that lie elsewhere than where it was trained; another expert is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from model.test_bundle import CHAT, CONFIGURATION
from safetensors.torch import load_file, save_file

from isthmus.model import AnyToAny
from isthmus.model.bundle import read_manifest
from isthmus.model.relocation import held, place


@pytest.fixture
def elsewhere(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A colleague's folder of experts, and nothing of ours."""
    there = tmp_path / "colleague"
    for name, where in {
        "llama": "llms/tiny",
        "imagebind": "all/imagebind",
        "image": "all/experts/image",
        "audio": "all/audio",
    }.items():
        (there / where).parent.mkdir(parents=True, exist_ok=True)
        (clone / "experts" / name).rename(there / where)
    shutil.rmtree(clone / "experts")
    monkeypatch.chdir(there)
    return there


def test_experts_are_placed_by_role_and_below_a_root(clone: Path, elsewhere: Path) -> None:
    stage, placed = clone / "runs" / "stage", {"backbone": "llms/tiny"}
    model = AnyToAny.from_checkpoint(stage, experts=placed, experts_root=elsewhere / "all")
    assert model.chat(CHAT, require=["image"]).media()
    again = model.save(elsewhere / "again", "some_stage")
    saved = read_manifest(again)["configuration"]
    assert {part.roles[0]: part.checkpoint for part in held(saved)} == {
        "backbone": str(elsewhere / "llms/tiny"),
        "encoder.image": str(elsewhere / "all/imagebind"),
        "generator.image": str(elsewhere / "all/experts/image"),
        "generator.audio": str(elsewhere / "all/audio"),
    }
    assert AnyToAny.from_checkpoint(again).outputs == ["image", "audio"], "they are found by themselves from now on"


def test_another_expert_is_told_by_its_fingerprint(clone: Path, elsewhere: Path) -> None:
    other = shutil.copytree(elsewhere / "llms/tiny", elsewhere / "llms/other")
    (weights,) = other.glob("*.safetensors")
    tensors = load_file(weights)
    first = min(tensors)
    save_file(tensors | {first: tensors[first] + 1}, weights, {"format": "pt"})
    with pytest.raises(ValueError, match=r"trained beside another backbone: CausalBackbone experts/llama \(\w{8}\)"):
        AnyToAny.from_checkpoint(clone / "runs/stage", experts={"backbone": other}, experts_root=elsewhere / "all")


@pytest.mark.parametrize(
    ("placed", "root", "message"),
    [
        (
            {},
            None,
            r"found no backbone \(experts/llama\), encoder.image \(experts/imagebind\), .*--experts ROLE=PATH",
        ),
        (
            {"backbon": "llms/tiny"},
            None,
            r"found the role 'backbon'; expected .*did you mean backbone\?",
        ),
        (
            {"backbone": "llms/gone"},
            None,
            r"backbone=llms/gone: found nothing there; expected the expert .* as experts/llama",
        ),
        ({"backbone": "llms/tiny"}, "gone", r"experts_root: gone: found no such folder"),
        (
            {"backbone": "llms/tiny"},
            "llms",
            r"found no encoder.image .*generator.audio \(experts/audio\), nei",
        ),
    ],
)
def test_what_is_not_there_is_named_with_its_role(
    placed: dict[str, str], root: str | None, message: str, clone: Path, elsewhere: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        AnyToAny.from_checkpoint(clone / "runs/stage", experts=placed, experts_root=root)


def test_an_expert_of_several_modalities_is_placed_once(tmp_path: Path) -> None:
    configuration = json.loads(json.dumps(CONFIGURATION))
    (encoder,) = configuration["input_side"]["init_args"]["encoders"]
    encoder["init_args"]["modalities"] = ["image", "audio"]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert place(configuration, {"encoder.audio": tmp_path / "one"}, None) == ["encoder.image", "encoder.audio"]
    assert encoder["init_args"]["checkpoint"] == str(tmp_path / "one")
    with pytest.raises(ValueError, match=r"found .*one and .*two for encoder.image, encoder.audio; expected one path"):
        place(configuration, {"encoder.image": tmp_path / "one", "encoder.audio": tmp_path / "two"}, None)


def test_other_parts_with_a_checkpoint_go_by_their_place(tmp_path: Path) -> None:
    projector = {"class_path": "isthmus.input_projectors.QFormer", "init_args": {"checkpoint": "bert"}}
    configuration = {"input_side": {"init_args": {"encoders": [], "projectors": {"image": projector}}}}
    (tmp_path / "blip").mkdir()
    assert place(configuration, {"input_side.projectors.image": tmp_path / "blip"}, None)
    assert projector["init_args"]["checkpoint"] == str(tmp_path / "blip")  # type: ignore[index]


def test_an_address_on_a_hub_is_no_path(tmp_path: Path) -> None:
    configuration = {"backbone": {"language_model": {"checkpoint": "hf://org/llm"}}}
    (part,) = held(configuration)
    assert not part.is_absent() and place(configuration, {}, tmp_path) == []
    assert place(configuration, {"backbone": "hf://org/other"}, None) and part.checkpoint == "hf://org/other"
