"""``~`` is the home folder wherever a user names a path: in Python, in a config and on the command line."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import isthmus
from isthmus.data.building.templates import read_templates
from isthmus.data.conversations.records import JsonRecords
from isthmus.data.conversations.sources import JsonLines
from isthmus.data.formats.base import RecordSource
from isthmus.data.streaming.storage import Storage
from isthmus.evaluation.samples.callback import Prompt
from isthmus.paths import PACKAGE, checkpoint_path, shipped_name, shipped_path, user_path

SOURCE = Path(isthmus.__file__).parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own, and another folder to be in."""
    own, here = tmp_path / "home", tmp_path / "here"
    own.mkdir()
    here.mkdir()
    (here / "lines.jsonl").write_text('{"a": 1}\n')
    monkeypatch.setenv("HOME", str(own))
    monkeypatch.chdir(here)
    return own


def test_the_home_folder_is_found_as_a_shell_finds_it(home: Path) -> None:
    assert user_path("~/a/b") == user_path(Path("~/a/b")) == home / "a/b"
    assert user_path("~") == home
    # Neither of these is the home folder to a shell.
    for path in ("a/~/b", "./~", "~no-such-user/a", "/a"):
        assert user_path(path) == Path(path)


def test_what_came_with_the_package_is_found_from_any_folder(home: Path) -> None:
    llama = Path("checkpoints/pocket/llama")
    found = checkpoint_path(llama)
    assert found.is_absolute() and (found / "model.safetensors").is_file()
    assert shipped_name(found) == llama and shipped_name(home / llama) == home / llama  # a bundle keeps to the name
    assert (shipped_path("examples/captioned") / "metadata.csv").is_file()
    for other in ("checkpoints/pocket/gone", "checkpoints/pocket-2", "configs/stage1.yaml", str(home / llama)):
        assert shipped_path(other) == Path(other) and shipped_name(Path(other)) == Path(other)
    llama.mkdir(parents=True)  # what the present folder has comes first
    assert checkpoint_path(llama) == llama
    assert shipped_name(PACKAGE / "paths.py") == PACKAGE / "paths.py"


ARGUMENTS: dict[str, Any] = {
    "class_token": True,
    "path": "lines.jsonl",
    "storage": Storage("."),
    "file": "{a}.png",
    "image_encoder": None,
    "in_width": 8,
    "judges": {},
    "keep": 1,
    "max_bytes": 1,
    "media": ["image"],
    "memo_megabytes": 1,
    "metrics": {"none": None},
    "modality": "image",
    "prompts": [Prompt("two")],
    "model": "vit",
    "out_width": 8,
    "pipeline": "StableDiffusionPipeline",
    "precision": "float32",
    "sentences": ".",
    "session": None,
    "sets": {},
    "stages": {"one": None},
    "values": {"image": 1},
    "version": "1",
}
"""What the constructors below need besides a path; a constructor with another name adds it."""

INSIDE = {
    "AnswersFile": "the replay command reads its path",
    "Answered": "its files are those of a folder that was opened",
    "AnswerStore": "Evaluation hands it its folder",
    "Benchmark": "benchmarks are its subclasses",
    "CaptionBenchmark": "benchmarks are its subclasses",
    "Comparison": "it says which files were compared",
    "Distances": "it hands Extraction its folder; the scan of the source below reads it",
    "Extraction": "metrics hand it their folder",
    "GEditScore": "scores are Judged",
    "Held": "it is a medium of an answer",
    "HeldRecords": "benchmarks hand it a path",
    "ImgEditScore": "scores are Judged",
    "InceptionFeatures": "it needs torch-fidelity; the scan of the source below reads it",
    "Judged": "Verdicts and read_rubric read its paths",
    "Lpips": "it needs torchvision; the scan of the source below reads it",
    "Pixels": "extractors hand it a folder",
    "PromptLikeness": "it hands Extraction its folder; the scan of the source below reads it",
    "PublishedNetwork": "extractors hand it a folder",
    "StoredAnswer": "it lies in a folder that was opened",
    "VQAv2": "it reads its questions first; the scan of the source below reads it",
    "WiScore": "scores are Judged",
    "ZeroShot": "it hands Extraction its folder; the scan of the source below reads it",
    "Opened": "it says where things were written",
    "PromptSet": "prompt sets are its subclasses",
    "Prompt": "its media are a mapping, which its conversation reads",
    "Result": "it says what a folder has",
    "Run": "it says what a folder has",
    "ShardWriter": "RunCheckpoints hands it a path that ModelCheckpoint has",
    "Sample": "SampleLog hands it a prompt's media",
    "ScreenProfiler": "it prints, and has its library's arguments",
    "AudioFrameEncoder": "Whisper and HuBERT hand it a path",
    "ClipConditioned": "generators are its subclasses",
    "Entry": "the experts command reads its path",
    "PublishedExpert": "what writes it is handed paths",
    "Delta": "the import command reads it",
    "Imported": "it says where things were written",
    "Loaded": "the app is handed the model's folder",
    "Shown": "it says where the app has written a medium",
    "Talk": "the app makes its folder",
    "Upload": "the server makes its folder",
    "SortedFiles": "MediaFolder hands it a path",
    "Source": "the import command reads its paths",
    "StoredWeights": "the language models hand it a path",
    "TableFiles": "HuggingFace hands it paths",
    "TableRows": "MediaFolder hands it a path",
    "TarRecords": "WebDataset hands it paths",
    "TarSamples": "WebDataset hands it paths",
    "Planning": "its folder is a temporary one",
    "Rehearsal": "its folder is a temporary one",
    "BuiltDialogues": "read_templates reads them, which is below",
    "DiffusionGenerator": "generators are its subclasses",
    "FramesEncoder": "it wants an image encoder first; the scan of the source below reads it",
    "FileDigests": "the cache hands it its store's folder",
    "ImageEncoder": "the vision encoders hand it a path",
    "KeptIndex": "it lies under the user's cache folder",
    "MediumItem": "data name files relative to their root, which they can't leave",
    "MelAudio": "generators are its subclasses",
    "PublishedTable": "tables are its subclasses",
    "PictureMaker": "the vision encoders hand it a path",
    "PipelineExpert": "generators are its subclasses",
    "Shards": "LocalCopies keeps the copies",
    "TimmVision": "it needs timm; the scan of the source below reads it",
}
"""Classes whose paths don't come from a user, and why."""


ROOTED = RecordSource, JsonLines
"""Those that read ``root`` for their subclasses, which want files of many kinds before they come to it."""


def public_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(isthmus.__path__, "isthmus."):
        if module.name.endswith("__main__"):
            continue
        try:
            members = vars(importlib.import_module(module.name))
        except ModuleNotFoundError as error:
            assert error.name == "lmms_eval", f"{module.name}: {error}"  # it is installed in .venv-timm alone
            continue
        for name, value in members.items():
            if inspect.isclass(value) and value.__module__ == module.name and not name.startswith("_"):
                yield value


def path_arguments(owner: type) -> list[str]:
    try:
        signature = inspect.signature(owner)
    except (TypeError, ValueError):  # enumerations, protocols, what a library wrote in C
        return []
    inherited = owner not in ROOTED and issubclass(owner, ROOTED)
    return [
        name
        for name, argument in signature.parameters.items()
        if "Path" in str(argument.annotation) and not (name == "root" and inherited)
    ]


CASES = [(owner, name) for owner in public_classes() if owner.__name__ not in INSIDE for name in path_arguments(owner)]


def told(owner: Any, arguments: dict[str, Any]) -> str:
    """What became of it: its error, or its attributes."""
    try:
        made = owner(**arguments)
    except ValueError as error:
        return str(error)
    return str(vars(made))


@pytest.mark.parametrize(("owner", "name"), CASES, ids=[f"{owner.__name__}.{name}" for owner, name in CASES])
def test_every_constructor_knows_the_home_folder(owner: type, name: str, home: Path) -> None:
    needed = {each for each, it in inspect.signature(owner).parameters.items() if it.default is inspect.Parameter.empty}
    arguments: dict[str, Any] = {name: f"~/absent/{name}"}
    for other in needed - {name}:
        arguments[other] = JsonRecords("lines.jsonl") if other == "records" else ARGUMENTS[other]
    said = told(owner, arguments)
    assert f"{home}/absent/{name}" in said and "~" not in said


HUB_CASES = [(owner, name) for owner, name in CASES if name in ("checkpoint", "t5")]


@pytest.mark.parametrize(("owner", "name"), HUB_CASES, ids=[f"{owner.__name__}.{name}" for owner, name in HUB_CASES])
def test_every_constructor_that_takes_a_checkpoint_takes_one_of_the_hub(owner: type, name: str) -> None:
    needed = {each for each, it in inspect.signature(owner).parameters.items() if it.default is inspect.Parameter.empty}
    arguments: dict[str, Any] = {other: ARGUMENTS[other] for other in needed - {name}}
    said = told(owner, {**arguments, name: "hf://no-organisation/no-model"})
    assert said.startswith("hf://no-organisation/no-model@main: it isn't whole in the hub's cache"), said


def test_functions_and_addresses_know_the_home_folder(home: Path) -> None:
    with pytest.raises(ValueError, match=f"{home}/absent.yaml"):
        read_templates("~/absent.yaml")
    assert Storage("~/shards/").address == f"{home}/shards"
    assert Storage("memory://a/~").address == "memory://a/~"


def test_paths_that_are_given_are_read_by_the_one_function() -> None:
    """What no constructor shows: an argument that is made a path in some other way."""
    wrong = []
    for file in sorted(SOURCE.rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                arguments = [*function.args.args, *function.args.kwonlyargs]
                given = {each.arg for each in arguments if each.annotation and "Path" in ast.unparse(each.annotation)}
                wrong += [
                    f"{file.relative_to(SOURCE)}:{call.lineno} {ast.unparse(call)}"
                    for call in ast.walk(function)
                    if isinstance(call, ast.Call)
                    and (
                        (ast.unparse(call.func) == "Path" and any(ast.unparse(each) in given for each in call.args))
                        or any(each.arg == "type" and ast.unparse(each.value) == "Path" for each in call.keywords)
                    )
                ]
    assert not wrong, "call isthmus.paths.user_path:\n" + "\n".join(wrong)
