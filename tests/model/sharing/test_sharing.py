"""A trained model on its way to others: packed, unpacked and used in another layout; and what may come in its place."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from model.test_bundle import CHAT, CONFIGURATION, EARLIER, rewrite
from safetensors.torch import load_file

from isthmus.earlier.options import renamed
from isthmus.model import AnyToAny
from isthmus.model.sharing.archive import NAME, unpack
from isthmus.model.sharing.export import export
from isthmus.model.sharing.opening import open_export
from isthmus.model.sharing.unplaced import without_paths


@pytest.fixture
def stage(clone: Path) -> Path:
    """A bundle that says what it was learnt from."""
    folder = clone / "runs" / "stage"
    source = {"class": "isthmus.data.JsonLines", "conversations": 7, "files": ["/home/me/secret/mine.jsonl"]}
    rewrite(folder, data={"mine": source | {"licence": "cc-by-4.0"}})
    (clone / "experts/image/README.md").write_text("---\nlicense: openrail\n---\n")
    return folder


@pytest.mark.parametrize("name", ["handed.zip", "handed"])
def test_a_model_is_handed_on_and_answers_the_same_in_another_layout(
    name: str, stage: Path, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = AnyToAny.from_checkpoint(stage).chat(CHAT, require=["image"])
    out = export(stage, tmp_path / name, "apache-2.0", ["matrix.json: digit 0.9"])
    assert out.is_file() == name.endswith(".zip")
    models = (clone / "experts").rename(tmp_path / "models")
    opened = open_export(out, tmp_path / "theirs", experts_root=models)
    assert (opened.stage, opened.absent) == ("some_stage", [])
    reply = AnyToAny.from_checkpoint(tmp_path / "theirs").chat(CHAT, require=["image"])
    assert reply.text == expected.text
    for mine, theirs in zip(reply.media(), expected.media(), strict=True):
        assert (mine.array == theirs.array).all()


def test_the_card_says_what_it_is_and_under_which_licences(stage: Path, tmp_path: Path) -> None:
    out = export(stage, tmp_path / "handed", "apache-2.0", ["matrix.json: digit 0.9"], {"ImageBind": "CC-BY-NC-SA 4.0"})
    card = (out / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    assert "takes text, image, and answers with text, image, audio" in text and "- matrix.json: digit 0.9" in text
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    assert "openrail" in rows["| generator.image"] and "not stated" in rows["| generator.audio"]
    assert "not stated; as published: CC-BY-NC-SA 4.0" in rows["| encoder.image"]
    assert "cc-by-4.0" in rows["| mine"] and "| lora" in rows
    unstated = export(stage, tmp_path / "other").joinpath("README.md").read_text(encoding="utf-8")
    assert "license: other" in unstated and "What was learnt: not stated; ask whoever made it." in unstated


def test_nothing_of_this_machine_is_handed_on(clone: Path, stage: Path, tmp_path: Path) -> None:
    """Absolute paths are cut to what tells the experts apart; relative ones stay."""
    configuration = json.loads(json.dumps(CONFIGURATION))
    language_model = configuration["backbone"]["init_args"]["language_model"]["init_args"]
    language_model["checkpoint"] = str(clone / "experts/llama")
    for generator in configuration["output_side"]["init_args"]["generators"]:
        generator["init_args"]["checkpoint"] = str(clone / generator["init_args"]["checkpoint"])
    configuration["cache"] = {"folder": str(clone / "cache")}
    manifest = json.loads((stage / "manifest.json").read_text()) | {"configuration": configuration}
    manifest["experts"]["encoder.image"]["checkpoint"] = str(clone / "experts/imagebind")
    shared = without_paths(manifest)
    assert str(tmp_path) not in json.dumps(shared) and "/home/me" not in json.dumps(shared)
    assert shared["experts"]["encoder.image"]["checkpoint"] == "experts/imagebind"
    assert (
        shared["configuration"]["backbone"]["init_args"]["language_model"]["init_args"]["checkpoint"] == "experts/llama"
    )
    generators = shared["configuration"]["output_side"]["init_args"]["generators"]
    assert [one["init_args"]["checkpoint"] for one in generators] == ["experts/image", "experts/audio"]
    alone = {"configuration": {"a": {"checkpoint": "/x/y/a"}, "b": {"checkpoint": "/x/z/b"}}, "experts": {}}
    assert without_paths(alone)["configuration"] == {
        "a": {"checkpoint": "a"},
        "b": {"checkpoint": "b"},
        "cache": None,
    }
    assert shared["data"]["mine"]["files"] == ["mine.jsonl"] and str(tmp_path) in json.dumps(manifest)


@pytest.mark.parametrize(
    ("named", "left"),
    [
        (["/home/alice/experts/clip", "/data/models/llama"], ["clip", "llama"]),
        (["/home/alice/one/clip", "/home/alice/two/clip"], ["one/clip", "two/clip"]),
        (["../../alice/experts/clip", "~/llama", "~bob/t5", "kept/as/is"], ["clip", "llama", "t5", "kept/as/is"]),
        (["here/clip", "/home/alice/here/clip", "/clip"], ["here/clip", "here/clip", "clip"]),
        (["hf://org/name@main", "/data/llama"], ["hf://org/name@main", "llama"]),
    ],
)
def test_paths_are_cut_to_the_shortest_ending_that_is_unique(named: list[str], left: list[str]) -> None:
    configuration = {str(at): {"init_args": {"checkpoint": each}} for at, each in enumerate(named)}
    shared = without_paths({"configuration": configuration, "experts": {"one": {"checkpoint": named[0]}}})
    assert [shared["configuration"][str(at)]["init_args"]["checkpoint"] for at in range(len(named))] == left
    assert shared["experts"]["one"]["checkpoint"] == left[0]


def test_paths_that_other_options_name_are_cut_too() -> None:
    language_model = {
        "checkpoint": "/data/models/llama",
        "chat_template": "/home/alice/templates/mine.jinja",
        "stop_strings": ["/end", "~"],
    }
    frames = {"image_encoder": {"checkpoint": "experts/clip"}, "temporal": "t5", "t5": "../alice/flan-t5"}
    more = {"nested": [{"any": "~/secret/file"}], "text": "1/2 of ~ ... or so"}
    configuration = {"backbone": language_model, "frames": frames, "more": more, "cache": {"folder": "/home/alice"}}
    data = {"mine": {"class": "isthmus.data.JsonLines", "root": "/home/alice/sets/mine", "files": ["/x/a.jsonl"]}}
    shared = without_paths({"configuration": configuration, "experts": {}, "data": data})
    assert shared["configuration"] == {
        "backbone": language_model | {"checkpoint": "llama", "chat_template": "mine.jinja"},
        "frames": frames | {"t5": "flan-t5"},
        "more": more | {"nested": [{"any": "file"}]},
        "cache": None,
    }
    assert shared["data"]["mine"] == {"class": "isthmus.data.JsonLines", "root": "mine", "files": ["a.jsonl"]}


def test_experts_of_several_roots_are_found_by_what_is_left_of_their_paths(
    clone: Path, stage: Path, tmp_path: Path
) -> None:
    """Those that lie in the root, and those in folders of it, as where the model was trained."""
    homes = {"llama": "home/alice/llms", "imagebind": "data/encoders", "image": "data/made", "audio": "data/made"}
    written = json.dumps(CONFIGURATION)
    for name, home in homes.items():
        written = written.replace(f'"experts/{name}"', f'"/{home}/{name}"')
    experts = json.loads((stage / "manifest.json").read_text())["experts"]
    for one in experts.values():
        name = Path(one["checkpoint"]).name
        one["checkpoint"] = f"/{homes[name]}/{name}"
    rewrite(stage, configuration=json.loads(written), experts=experts)
    out = export(stage, tmp_path / "handed")
    handed = (out / "manifest.json").read_text() + (out / "README.md").read_text()
    assert "alice" not in handed and "/data" not in handed
    root = tmp_path / "root"
    (root / "llms").mkdir(parents=True)
    (clone / "experts/llama").rename(root / "llms/llama")
    for name in ("imagebind", "image", "audio"):
        (clone / "experts" / name).rename(root / name)
    opened = open_export(out, tmp_path / "theirs", experts_root=root)
    assert opened.absent == [] and opened.experts["backbone"].endswith(str(root / "llms/llama"))


def test_the_same_model_gives_the_same_file(stage: Path, tmp_path: Path) -> None:
    first, second = export(stage, tmp_path / "a" / "m.zip"), export(stage, tmp_path / "b" / "m.zip")
    assert first.read_bytes() == second.read_bytes()
    for taken in (stage, first):
        with pytest.raises(ValueError, match="found something of that name; expected a new folder, or a new file"):
            export(stage, taken)
    with pytest.raises(ValueError, match=r"found the ending .tar; expected .* a new file NAME.zip"):
        export(stage, tmp_path / "m.tar")


def test_weights_are_stored_in_half_the_bytes_when_asked(stage: Path, clone: Path, tmp_path: Path) -> None:
    whole, half = export(stage, tmp_path / "whole"), export(stage, tmp_path / "half", dtype="bfloat16")
    for file in sorted(path.name for path in whole.glob("*.safetensors")):
        stored = load_file(half / file)
        for name, tensor in load_file(whole / file).items():
            assert torch.equal(stored[name], tensor.bfloat16())
    opened = AnyToAny.from_checkpoint(half, experts_root=clone / "experts")
    assert opened.chat(CHAT, require=["image"]).media()
    assert {tensor.dtype for tensors in opened.owned_state().values() for tensor in tensors.values()} == {torch.float32}


def test_a_bundle_of_before_renames_is_handed_on_and_used(
    clone: Path, stage: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Options, and modules that moved: whoever gets it can't rename them, and is told nothing of it."""
    written = json.dumps(CONFIGURATION)
    for present, old in EARLIER.items():
        written = written.replace(f'"{present}":', f'"{old}":')
    for name, module in (("StableDiffusion", "stable_diffusion"), ("AudioLDM", "audioldm")):
        written = written.replace(f"generators.{name}", f"generators.{module}.{name}")
    earlier = json.loads(written)
    assert earlier != CONFIGURATION
    rewrite(stage, configuration=earlier)
    out = export(stage, tmp_path / "old.zip")
    open_export(out, tmp_path / "theirs", experts_root=clone)
    manifest = json.loads((tmp_path / "theirs/manifest.json").read_text())
    assert json.dumps(renamed(manifest["configuration"])) == json.dumps(manifest["configuration"])
    assert AnyToAny.from_checkpoint(tmp_path / "theirs").outputs == ["image", "audio"]
    assert AnyToAny.from_checkpoint(stage).outputs == ["image", "audio"]
    assert not [warning for warning in recwarn if "is called" in str(warning.message)]


def test_an_import_without_experts_says_which_are_absent(clone: Path, stage: Path, tmp_path: Path) -> None:
    out = export(stage, tmp_path / "m.zip")
    (clone / "experts").rename(tmp_path / "hidden")
    opened = open_export(out, tmp_path / "theirs")
    assert opened.absent == ["backbone", "encoder.image", "generator.image", "generator.audio"]


def test_another_expert_is_refused_at_the_import(clone: Path, stage: Path, tmp_path: Path) -> None:
    out = export(stage, tmp_path / "m.zip")
    with pytest.raises(ValueError, match=r"backbone was CausalBackbone experts/llama with .* found .*imagebind with"):
        open_export(out, tmp_path / "theirs", experts={"backbone": clone / "experts/imagebind"})
    assert not (tmp_path / "theirs").exists()


def packed(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../lora.safetensors",
        "/tmp/lora.safetensors",
        "below/lora.safetensors",
        "..\\lora.safetensors",
        "C:lora.safetensors",
        ".hidden.safetensors",
        "run.py",
        "manifest.json/",
        "lora.safetensors\0.py",
    ],
)
def test_a_name_that_could_leave_the_folder_or_run_is_refused(name: str, tmp_path: Path) -> None:
    archive = packed(tmp_path / "evil.zip", [("manifest.json", b"{}"), (name, b"x")])
    if NAME.fullmatch(name.partition("\0")[0]):  # zipfile cuts names at a null byte
        name = name.partition("\0")[0]
        assert set(unpack(archive)) == {"manifest.json", name}
        return
    with pytest.raises(ValueError, match=r"evil.zip: found '.*' in it; expected manifest.json, README.md and weights"):
        open_export(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def test_what_unpacks_to_more_than_is_allowed_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = packed(tmp_path / "bomb.zip", [("manifest.json", b"{}"), ("lora.safetensors", bytes(1 << 26))])
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"bomb.zip: its files have 0.1 GB together; expected at most 0.01"):
        open_export(bomb, tmp_path / "out", largest=0.01)


def test_a_size_that_lies_is_an_error(tmp_path: Path) -> None:
    """An entry that says that it is small unpacks to no more than it says, and then its checksum differs."""
    bomb = packed(tmp_path / "bomb.zip", [("lora.safetensors", bytes(1 << 20))])
    content = bomb.read_bytes()
    bomb.write_bytes(content.replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=r"bomb.zip: it can't be read as an archive"):
        unpack(bomb)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda files: files.pop("manifest.json"), "found no manifest.json, so no trained model"),
        (lambda files: files.pop("lora.safetensors"), r"expected the \d that its manifest names; they differ in lora"),
        (lambda files: files.update({"more.safetensors": b"x"}), "differ in more.safetensors"),
        (lambda files: files.update({"lora.safetensors": b"x"}), "lora.safetensors: its content isn't what the manif"),
        (lambda files: files.update({"manifest.json": b"["}), "manifest.json: damaged"),
        (lambda files: files.update({"manifest.json": b"[" * 100_000}), "manifest.json: damaged"),
    ],
)
def test_what_is_not_whole_is_refused_and_nothing_is_written(
    damage: Callable[[dict[str, bytes]], Any], message: str, stage: Path, tmp_path: Path
) -> None:
    files = unpack(export(stage, tmp_path / "m.zip"))
    damage(files)
    with pytest.raises(ValueError, match=message):
        open_export(packed(tmp_path / "damaged.zip", list(files.items())), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_components_cannot_name_other_files(stage: Path, tmp_path: Path) -> None:
    files = unpack(export(stage, tmp_path / "m.zip"))
    manifest = json.loads(files["manifest.json"])
    manifest["components"]["../../secret"] = "0" * 64
    files["manifest.json"] = json.dumps(manifest).encode()
    with pytest.raises(ValueError, match=r"they differ in \.\./\.\./secret.safetensors"):
        open_export(packed(tmp_path / "evil.zip", list(files.items())), tmp_path / "out")


def test_classes_of_other_packages_are_refused_at_the_import(stage: Path, tmp_path: Path) -> None:
    configuration = json.loads(json.dumps(CONFIGURATION))
    configuration["input_side"]["init_args"]["encoders"][0]["class_path"] = "os.system"
    rewrite(stage, configuration=configuration)
    files = unpack(export(stage, tmp_path / "m.zip"))
    with pytest.raises(ValueError, match=r"found 'os.system'; expected a class of isthmus"):
        open_export(packed(tmp_path / "evil.zip", list(files.items())), tmp_path / "out", experts_root=tmp_path)


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "words.zip").write_text("words")
    for name, said in (("words.zip", "it can't be read as an archive"), ("gone.zip", "found no such file")):
        with pytest.raises(ValueError, match=f"{name}: {said}"):
            open_export(tmp_path / name, tmp_path / "out")
