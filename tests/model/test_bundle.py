"""A trained model's folder: bit for bit there and back, also from elsewhere; and every way in which it can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from model.talks import mixed
from safetensors.torch import load_file, save_file
from tiny_world import SIGNALS

from isthmus.backbones.base import Sampling
from isthmus.backbones.named_rows import named
from isthmus.model import AnyToAny
from isthmus.model.bundle import FORMAT, read_components, read_manifest

MLP = {"class_path": "isthmus.input_projectors.MLP", "init_args": {"hidden": 8}}
TRANSFORMER = {
    "class_path": "isthmus.output_projectors.TinyTransformer",
    "init_args": {"width": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "feed_forward": 16},
}


def part(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


CONFIGURATION = {
    "backbone": part(
        "isthmus.model.Backbone",
        language_model=part(
            "isthmus.backbones.CausalBackbone",
            checkpoint="experts/llama",
            signals=SIGNALS,
            lora={"r": 2, "lora_dropout": 0.0},
        ),
    ),
    "input_side": part(
        "isthmus.model.InputSide",
        encoders=[part("isthmus.encoders.ImageBind", checkpoint="experts/imagebind", modalities=["image"])],
        projectors={"image": MLP},
    ),
    "output_side": part(
        "isthmus.model.OutputSide",
        generators=[
            part("isthmus.generators.StableDiffusion", checkpoint="experts/image", num_inference_steps=2),
            part("isthmus.generators.AudioLDM", checkpoint="experts/audio", num_inference_steps=2),
        ],
        projectors={"image": TRANSFORMER, "audio": TRANSFORMER},
    ),
    "sampling": {"max_new_tokens": 3},
}
EARLIER = {
    "num_inference_steps": "steps",
    "max_new_tokens": "max_tokens",
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
}
"""Present names in a bundle's manifest, and those that 0.1 wrote."""
CHAT = [{"role": "user", "content": "draw"}]


def made_clone(experts: dict[str, Path], clone: Path) -> Path:
    """A folder with the experts under ``experts/`` and an untrained model's bundle in ``runs/stage``."""
    shutil.copytree(experts["llama"].parent, clone / "experts")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AnyToAny, "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        parsed = parser.parse_object({"model": json.loads(json.dumps(CONFIGURATION))})
        model: AnyToAny = parser.instantiate_classes(parsed).model
        model.configuration = CONFIGURATION
        model.configure_model()
        for index, (_, parameter) in enumerate(model.named_owned()):
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1 + 0.01 * index)
        model.save(clone / "runs" / "stage", "some_stage")
    return clone


@pytest.fixture
def clone(experts: dict[str, Path], tmp_path: Path) -> Path:
    return made_clone(experts, tmp_path / "clone")


@pytest.fixture
def folder(model: AnyToAny, tmp_path: Path) -> Path:
    """A bundle of a model that was composed in Python."""
    return model.save(tmp_path / "bundle", "some_stage")


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def untouched(model: AnyToAny, load: Callable[[], object], message: str) -> None:
    before = {name: parameter.detach().clone() for name, parameter in model.named_owned()}
    with pytest.raises(ValueError, match=message):
        load()
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_owned())


def test_a_bundle_goes_round_bit_for_bit(model: AnyToAny, build: Any, folder: Path) -> None:
    other = build(seed=9)
    manifest = other.load(folder)
    assert manifest["stage"] == "some_stage" and manifest["format"] == FORMAT
    for (name, mine), (_, theirs) in zip(other.named_owned(), model.named_owned(), strict=True):
        assert torch.equal(mine, theirs), name
    batch = model.collator()(mixed())
    assert torch.equal(other(batch).text_loss, model(batch).text_loss)
    files = {file.name for file in folder.iterdir()}
    assert files == {"manifest.json", *(f"{component}.safetensors" for component in model.owned_state())}
    again = other.save(folder.parent / "again", "some_stage")
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }


@pytest.mark.parametrize("version", ["this", "0.1"])
def test_a_bundle_opens_from_anywhere_and_answers_the_same(
    version: str, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        here = AnyToAny.from_checkpoint("runs/stage")
        expected = here.chat(CHAT, require=["image", "audio"])
    moved = clone.rename(tmp_path / "moved")
    if version == "0.1":
        manifest = moved / "runs" / "stage" / "manifest.json"
        text = manifest.read_text()
        for new, old in EARLIER.items():
            assert f'"{new}"' in text
            text = text.replace(f'"{new}"', f'"{old}"')
        manifest.write_text(text)
    monkeypatch.chdir(tmp_path)
    there = AnyToAny.from_checkpoint(moved / "runs" / "stage")
    assert there.sampling == Sampling(max_new_tokens=3) and not there.training
    saved = read_components(moved / "runs" / "stage")
    assert saved.keys() == there.owned_state().keys()
    for component, tensors in named(there.owned_state(), there.backbone.language_model.vocabulary).items():
        assert all(torch.equal(tensor, saved[component][name]) for name, tensor in tensors.items())
    found = there.chat(CHAT, require=["image", "audio"])
    assert found.text == expected.text
    for mine, theirs in zip(found.media(), expected.media(), strict=True):
        assert (mine.array == theirs.array).all() and mine.details == theirs.details
    again = there.save(tmp_path / "again", "some_stage")
    assert read_manifest(again)["configuration"] == CONFIGURATION, "paths stay as they were given"


def test_experts_that_moved_away_are_named(clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (clone / "experts" / "image").rename(tmp_path / "image")
    said = r"stage: found no generator.image \(experts/image\), neither .* Fix: .*--experts ROLE=PATH or --experts_root"
    with pytest.raises(ValueError, match=said):
        AnyToAny.from_checkpoint(clone / "runs" / "stage")


def test_experts_that_changed_are_refused(clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (weights,) = (clone / "experts" / "audio" / "unet").glob("*.safetensors")
    tensors = load_file(weights)
    first = min(tensors)
    save_file(tensors | {first: tensors[first] + 1}, weights, {"format": "pt"})
    said = r"stage: trained beside another generator.audio: AudioLDM experts/audio \(\w{8}\), this model has AudioLDM "
    with pytest.raises(ValueError, match=said + r".*experts/audio \(\w{8}\); configure the same expert, or train"):
        AnyToAny.from_checkpoint(clone / "runs" / "stage")


def test_a_model_that_was_composed_in_python_says_how_to_go_on(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"composed in Python.*call its load\(folder\)"):
        AnyToAny.from_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "manifest.json: damaged .*; copy the folder anew"),
        ("[]", "manifest.json: damaged"),
        ("\udcff", "manifest.json: damaged"),
        ('{"stage": "x"}', r"manifest.json: damaged \('format'\)"),
        ('{"format": 1, "components": {}, "stage": "x"}', r"damaged \(found no configuration, experts\); copy"),
        ('{"format": 3, "parts": []}', "manifest.json: found format 3; this version reads 1 and 2: install a fitt"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(model: AnyToAny, folder: Path, text: str, message: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    untouched(model, lambda: model.load(folder), message)
    with pytest.raises(ValueError, match=message):
        AnyToAny.from_checkpoint(folder)


def test_a_folder_without_a_manifest_is_no_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}: found no manifest.json, .*; did you mean {folder}"):
        read_manifest(tmp_path)
    (folder / "manifest.json").unlink()
    for path in (folder, tmp_path / "gone", folder / "lora.safetensors"):
        with pytest.raises(ValueError, match=f"{path}: found no manifest.json, so no trained model; train first"):
            read_manifest(path)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "lora.safetensors: the manifest names it, but it isn't there; copy the folder anew"),
        (cut, "lora.safetensors: its content isn't what the manifest says"),
        (flip, "lora.safetensors: its content isn't what the manifest says"),
    ],
)
def test_a_damaged_component_is_named_and_nothing_is_loaded(
    build: Any, folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder / "lora.safetensors")
    other = build(seed=9)
    untouched(other, lambda: other.load(folder, strict=False), message)


def test_a_component_that_is_no_safetensors_file_is_named(build: Any, folder: Path) -> None:
    (folder / "lora.safetensors").write_bytes(b"words")
    components = read_manifest(folder)["components"]
    rewrite(folder, components=components | {"lora": sha256(b"words").hexdigest()})
    other = build(seed=9)
    untouched(other, lambda: other.load(folder), r"lora.safetensors: not a safetensors file \(.*\); copy")


@pytest.mark.parametrize("name", ["../secret", "{outside}", "below/../../secret", "below/secret", "./../secret"])
def test_a_manifest_cannot_reach_outside_its_folder(folder: Path, name: str) -> None:
    outside = folder.parent / "secret.safetensors"
    shutil.copy(folder / "lora.safetensors", outside)
    (folder / "below").mkdir()
    shutil.copy(outside, folder / "below")
    name = name.format(outside=outside.with_suffix(""))
    rewrite(folder, components={name: sha256(outside.read_bytes()).hexdigest()})
    with pytest.raises(ValueError, match=r"secret.safetensors: the manifest names it, but it isn't there"):
        read_components(folder)


OWN_ENCODER = """
from pathlib import Path
from isthmus.encoders.imagebind.encoder import ImageBind

Path(__file__).with_name("ran").touch()


class Mine(ImageBind):
    pass
"""


def test_a_class_of_another_package_is_imported_only_where_it_is_allowed(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_encoders.py").write_text(OWN_ENCODER)
    stage = clone / "runs" / "stage"
    configuration = json.loads(json.dumps(CONFIGURATION))
    configuration["input_side"]["init_args"]["encoders"][0]["class_path"] = "own_encoders.Mine"
    rewrite(stage, configuration=configuration)
    message = (
        rf"{stage}/manifest.json: configuration.input_side.init_args.encoders\[0\].class_path: found "
        r"'own_encoders.Mine'; expected a class of isthmus, .* Fix: .*--allow own_encoders"
    )
    with pytest.raises(ValueError, match=message):
        AnyToAny.from_checkpoint(stage)
    assert not (tmp_path / "ran").exists()
    model = AnyToAny.from_checkpoint(stage, allow=["own_encoders"])
    assert (tmp_path / "ran").exists() and model.inputs == ["image"]


@pytest.mark.parametrize(
    ("key", "class_path"),
    [("own", "isthmus.importing.published.subprocess.Popen"), ("checkpoint", "subprocess.Popen")],
)
def test_free_options_run_nothing(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, class_path: str
) -> None:
    """Neither by what this package's modules imported, nor under a key that is a path elsewhere."""
    monkeypatch.chdir(clone)
    started: list[Any] = []
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *args, **options: started.append(args))
    configuration = json.loads(json.dumps(CONFIGURATION))
    options = {key: {"class_path": class_path, "init_args": {"args": ["true"]}}}
    configuration["input_side"]["init_args"]["encoders"][0] = {
        "class_path": "isthmus.encoders.TimmVision",
        "init_args": {"model_name": "resnet18", "checkpoint": str(tmp_path), "options": options},
    }
    rewrite(clone / "runs" / "stage", configuration=configuration)
    with pytest.raises(ValueError, match="expected a class of isthmus"):
        AnyToAny.from_checkpoint(clone / "runs" / "stage")
    assert not started


@pytest.mark.parametrize(
    "class_path",
    ["isthmus.model.any_to_any.nn.Linear", "isthmus.cli.configs.NamedConfigFile", "isthmus.cli.main", "isthmus.MLP"],
)
def test_a_path_through_this_package_gives_no_class_of_another_kind(
    clone: Path, monkeypatch: pytest.MonkeyPatch, class_path: str
) -> None:
    """Modules import others: by their names more than this package can be reached, but only parts are built."""
    monkeypatch.chdir(clone)
    configuration = json.loads(json.dumps(CONFIGURATION))
    configuration["input_side"]["init_args"]["encoders"][0] = {"class_path": class_path}
    rewrite(clone / "runs" / "stage", configuration=configuration)
    with pytest.raises(ValueError, match=r"its configuration can't be composed|expected a class of isthmus"):
        AnyToAny.from_checkpoint(clone / "runs" / "stage")


def test_a_bundle_of_other_parts_names_its_folder_and_them(build: Any, folder: Path) -> None:
    smaller = build(outputs=("image",), seed=9)
    message = (
        rf"{folder}: saved state: found components .*output_projectors.video.*; expected .*configure the same parts"
    )
    untouched(smaller, lambda: smaller.load(folder, strict=False), message)


def test_a_second_save_leaves_nothing_of_the_first(build: Any, folder: Path) -> None:
    build(inputs=("image",), outputs=(), lora=None).save(folder, "later")
    names = {"input_projectors.image", "media_tags", "signal_rows"}
    assert {file.name for file in folder.iterdir()} == {"manifest.json", *(f"{name}.safetensors" for name in names)}
    manifest = read_manifest(folder)
    assert manifest["stage"] == "later" and manifest["components"].keys() == names
    assert manifest["experts"].keys() == {"backbone", "encoder.image"}


def test_one_expert_of_several_modalities_is_described_for_each(model: AnyToAny, folder: Path) -> None:
    experts = read_manifest(folder)["experts"]
    media = [f"encoder.{name}" for name in model.inputs] + [f"generator.{name}" for name in model.outputs]
    assert set(experts) == {"backbone", *media}
    assert experts["encoder.image"] == experts["encoder.audio"] != experts["encoder.points"]
    assert {entry["class"] for entry in experts.values()} >= {"CausalBackbone", "ImageBind", "StableDiffusion"}
