"""Pushing to a hub on loopback: what was learnt and a card, with a token, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback_hub import LoopbackHub, reached
from tiny_parts import write_imagebind
from tiny_world import write_llm

from isthmus.cli import main
from isthmus.model import AnyToAny
from isthmus.model.bundle import compose, read_manifest
from isthmus.model.sharing.opening import open_export


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """With a token, as `hf auth login` leaves it, and without the protocol of a storage that only the real one has."""
    with reached(tmp_path / "cache", monkeypatch) as found:
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", found.token)
        yield found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    write_llm(folder / "experts/llm")
    write_imagebind(folder / "experts/imagebind")
    encoder = {"checkpoint": str(folder / "experts/imagebind"), "modalities": ["image"]}
    llm = {"checkpoint": str(folder / "experts/llm"), "signals": {"image": 2}}
    projector = {"class_path": "isthmus.input_projectors.MLP", "init_args": {"hidden": 8}}
    configuration = {
        "backbone": {
            "class_path": "isthmus.model.Backbone",
            "init_args": {"language_model": {"class_path": "isthmus.backbones.CausalBackbone", "init_args": llm}},
        },
        "input_side": {
            "class_path": "isthmus.model.InputSide",
            "init_args": {
                "encoders": [{"class_path": "isthmus.encoders.ImageBind", "init_args": encoder}],
                "projectors": {"image": projector},
            },
        },
    }
    model = compose(AnyToAny, deepcopy(configuration), folder)
    model.configuration = configuration
    model.configure_model()
    return model.save(folder / "runs/one/stage", "encoder_alignment")


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "one" / "stage")


def test_what_is_pushed_is_what_others_import(
    hub: LoopbackHub, bundle: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["push", str(bundle), "me/bridges", "--license", "mit"])
    said = capsys.readouterr().out
    assert "/me/bridges/commit/" in said and "hf download me/bridges --local-dir bridges" in said
    files = hub.content("me/bridges")
    named = {f"{part}.safetensors" for part in read_manifest(bundle)["components"]}
    assert files.keys() == named | {"manifest.json", "README.md", ".gitattributes"}
    assert hub.repositories["me/bridges"].private
    card = files["README.md"].decode()
    assert "license: mit" in card and "hf download me/bridges --local-dir bridges" in card and str(tmp_path) not in card
    for name in named | {"manifest.json"}:  # hashes by which whoever has the card knows the files
        assert f"| {name} | {len(files[name]):,} | {sha256(files[name]).hexdigest()} |" in card

    for name, content in files.items():
        (tmp_path / "bridges").mkdir(exist_ok=True)
        (tmp_path / "bridges" / name).write_bytes(content)
    opened = open_export(tmp_path / "bridges", tmp_path / "theirs", experts_root=trained.parents[2] / "experts")
    assert opened.stage == "encoder_alignment" and not opened.absent


def test_a_later_push_replaces_an_earlier_one(hub: LoopbackHub, bundle: Path) -> None:
    hub.add("me/bridges", {"manifest.json": b"{}", "lora.safetensors": b"0", ".gitattributes": b"kept"})
    main(["push", str(bundle), "me/bridges", "--public"])
    files = hub.content("me/bridges")
    assert (
        "lora.safetensors" not in files and files[".gitattributes"] == b"kept" and b"experts" in files["manifest.json"]
    )


def refusal(capsys: pytest.CaptureFixture[str], bundle: Path, repository: str = "me/bridges") -> str:
    with pytest.raises(SystemExit) as ended:
        main(["push", str(bundle), repository])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "Traceback" not in said
    return said


def test_weights_of_experts_are_never_pushed(
    hub: LoopbackHub, bundle: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.parents[2] / "experts/llm", bundle / "llm")
    said = refusal(capsys, bundle)
    assert "llm/config.json" in said and "Experts' weights are never pushed" in said
    shutil.rmtree(bundle / "llm")
    shutil.copy(trained.parents[2] / "experts/llm/model.safetensors", bundle)
    assert "found model.safetensors beside what its manifest.json names" in refusal(capsys, bundle)
    assert "found no manifest.json" in refusal(capsys, trained.parents[2] / "experts/llm")
    assert not hub.requests  # the hub wasn't even asked


def test_a_repository_of_something_else_stays_as_it_is(
    hub: LoopbackHub, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("me/llm", {"config.json": b"{}", "model.safetensors": b"0"})
    assert "me/llm: found config.json, model.safetensors in it; expected an empty repository" in refusal(
        capsys, bundle, "me/llm"
    )
    assert hub.content("me/llm").keys() == {"config.json", "model.safetensors"}
    hub.add("me/weights", {"README.md": b"mine", "model.safetensors": b"0"})  # names that a push has too
    assert "me/weights: found README.md, model.safetensors in it" in refusal(capsys, bundle, "me/weights")


def test_who_may_not_write_is_told_so(
    hub: LoopbackHub, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "log in by `hf auth login` with a token that may write to me/bridges" in refusal(capsys, bundle)
    assert "expected a repository's name, as org/name" in refusal(capsys, bundle, "bridges")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in refusal(capsys, bundle)
    assert not hub.repositories
