"""Every shipped config parses, composes its model, and names stages, parts and data that there are."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny_benchmarks import coco
from tiny_captions import write_captioned
from tiny_manifest import write_set
from tiny_parts import write_whisper
from tiny_world import tiny_clone

from isthmus.cli.training import Command
from isthmus.evaluation import Evaluation, MatrixEvaluation
from isthmus.pocket.judges.digit_reader import save_weights
from isthmus.pocket.judges.speech import FILE, SpeechReader
from isthmus.training import StageSwitch
from isthmus.training.trainable import select_parts

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# tests/test_engines.py, tests/test_full_size.py, tests/test_logger_configs.py have the other folders'. Those of eval/
# stand beside another config; those of public benchmarks are tested by tests/test_eval_configs.py.
LAYERS = ("trainer.yaml", "stages.yaml", "pocket.yaml")
"""Read before the others."""
NAMES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob("*.yaml")
    if path.parent.name not in ("engines", "experts", "eval", "loggers")
)
EVALUATIONS = sorted(path.relative_to(CONFIGS).as_posix() for path in (CONFIGS / "eval").glob("pocket_*.yaml"))
CAPTIONED = {"emoji": ("llama", "imagebind"), "ldraw3d": ("llama", "point_bert")}
"""Users' captioned sets and their experts; each has a config of its own."""
EXPERTS = ("imagebind", "point_bert", "llama", "stable_diffusion", "zeroscope", "audioldm", "shap_e")
Compose = Callable[[str], Any]


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text())
    return found


def composed(name: str, folder: Path, *others: str) -> Any:
    """The command of ``fit -c name`` in a folder, with other configs after it, all instantiated and nothing run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py"])
        patch.setattr(Command, "fit", lambda self, **_: None)
        named = [word for each in (name, *others) for word in ("-c", each)]
        return Command(["fit", *named, "--trainer.accelerator", "cpu"])


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny experts where the configs look for the embedded ones."""
    folder = tiny_clone(tmp_path_factory.mktemp("clone"))
    write_own_digits(folder)
    write_own_captioned(folder)
    write_published(folder)
    (folder / "examples").symlink_to(CONFIGS.parent / "examples")
    return folder


def write_own_digits(folder: Path) -> None:
    """What digits.yaml looks for: a user's set, and experts and judges for it."""
    write_set(folder / "data" / "digits")
    pocket, own = folder / "checkpoints" / "pocket", folder / "checkpoints" / "digits"
    shutil.copytree(pocket / "judges", own / "judges")
    save_weights(SpeechReader(), own / "judges" / FILE)
    for expert in ("imagebind", "point_bert", "stable_diffusion", "zeroscope", "audioldm"):
        (own / expert).symlink_to(pocket / expert)


def write_own_captioned(folder: Path) -> None:
    """What emoji.yaml and ldraw3d.yaml look for: a user's captioned media, and experts for them."""
    for name, experts in CAPTIONED.items():
        write_captioned(folder / "data" / name)
        own = folder / "checkpoints" / name
        own.mkdir()
        for expert in experts:
            (own / expert).symlink_to(folder / "checkpoints" / "pocket" / expert)


def write_published(folder: Path) -> None:
    """What talk.yaml looks for: a published LLM, Whisper, and the LLM's own answers."""
    published = folder / "checkpoints" / "published"
    published.mkdir()
    (published / "smollm2-135m-instruct").symlink_to(folder / "checkpoints" / "pocket" / "llama")
    write_whisper(published / "whisper-tiny.en", seconds=30)
    (folder / "data" / "talk").mkdir(parents=True)
    turns = [{"role": role, "content": "two"} for role in ("user", "assistant")]
    (folder / "data" / "talk" / "replay.jsonl").write_text(json.dumps({"messages": turns}) + "\n")


@pytest.fixture(scope="module")
def compose(clone: Path) -> Compose:
    """Composes a config beside tiny experts, each once."""
    known: dict[str, Any] = {}

    def make(name: str) -> Any:
        if name not in known:
            known[name] = composed(name, clone)
        return known[name]

    return make


def check(cli: Any) -> None:
    """The stages that the config runs name parts of its model and sources of its data."""
    (switch,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, StageSwitch)]
    assert cli.model.configuration["backbone"]["class_path"] == "isthmus.model.Backbone"
    cli.model.configure_model()
    for name in switch.names:
        stage = switch.stages[name]
        assert select_parts(cli.model, stage.trains, name)
        assert len(cli.datamodule.set_stage(name, stage.data, steps=1)) == 1
    assert cli.datamodule.test
    assert cli.datamodule.validation or cli.config["fit"].data.validation is None


@pytest.mark.parametrize("name", NAMES)
def test_composes(name: str, compose: Compose, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = compose(name)
    monkeypatch.chdir(clone)
    check(cli)


def test_stages_are_defined_once() -> None:
    stages = read("stages.yaml")["training"]["stages"]
    paper = ["encoder_alignment", "decoder_alignment", "instruction_tuning"]
    assert list(stages) == [*paper, "preference_tuning"]
    embedded = read("pocket.yaml")["training"]["stages"]
    assert all(list(embedded[name]) == ["data"] for name in stages), "the embedded world says what is mixed"
    stages |= embedded
    for name in NAMES:
        training = read(name).get("training", {})
        # Examples may change one: a stage of other rewards, or of other data. Captions of all kinds take more steps,
        # and a published LLM other ones.
        may_change = name.startswith("examples/") or Path(name).stem in (*CAPTIONED, "talk")
        assert name in LAYERS or may_change or "stages" not in training, name
        own = training.get("stages") or {}
        # One that these don't have says all of itself.
        further = {stage for stage, says in own.items() if may_change and {"trains", "losses", "steps"} <= set(says)}
        assert set(training.get("run") or []) <= set(stages) | further, name
        assert set(own) <= set(stages) | further, name


def test_each_stage_starts_from_what_the_last_one_writes() -> None:
    expected = None
    for name in ("stage1.yaml", "stage2.yaml", "stage3.yaml"):
        own = read(name)["training"]
        assert own.get("init_from") == expected, name
        expected = f"{own['folder']}/{own['run'][-1]}"
    whole = read("curriculum.yaml")["training"]
    for name in ("preference.yaml", "grpo.yaml"):
        assert read(name)["training"]["init_from"] == f"{whole['folder']}/{whole['run'][-1]}", f"{name}: of quickstart"


def test_one_stage_and_the_curriculum_hold_the_same_stages(compose: Compose) -> None:
    stage, curriculum = (compose(name).config["fit"] for name in ("stage2.yaml", "curriculum.yaml"))
    assert stage.training.stages == curriculum.training.stages
    assert (stage.model, stage.data) == (curriculum.model, curriculum.data)


def own_set(folder: Path, **training: Any) -> str:
    """A config that names a set of the user's own, and what else is given."""
    sets = {"mine": {"class_path": "isthmus.data.JsonLines", "init_args": {"path": str(folder / "mine.jsonl")}}}
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
    (folder / "mine.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"data": {"sources": sets, "test": sets}, "training": training}))
    return str(path)


def test_a_set_of_ones_own_leaves_the_digits_out(clone: Path, tmp_path: Path) -> None:
    given = {"stages": {"instruction_tuning": {"steps": 7}}}
    cli = composed(own_set(tmp_path, **given), clone)
    (switch,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, StageSwitch)]
    assert set(cli.datamodule.sources) == {"mine"} and not cli.datamodule.validation
    assert switch.names == ["encoder_alignment", "decoder_alignment", "instruction_tuning"], "the others' defaults stay"
    stages = read("stages.yaml")["training"]["stages"]
    assert [switch.stages[name].steps for name in switch.names] == [120, 250, 7]
    assert switch.stages["instruction_tuning"].trains == stages["instruction_tuning"]["trains"]
    assert all(stage.data is None for stage in switch.stages.values())
    assert not any(isinstance(callback, MatrixEvaluation) for callback in cli.trainer.callbacks)
    assert any(isinstance(callback, ModelCheckpoint) for callback in cli.trainer.callbacks)
    assert "isthmus.pocket" not in cli.parser.dump(cli.config), "nothing of the embedded world's data is configured"


def test_what_of_a_test_is_missing_is_said(clone: Path, tmp_path: Path) -> None:
    cli = composed(own_set(tmp_path), clone)
    with pytest.raises(ValueError, match=r"trainer.callbacks: found none that measures answers; .*Fix: add one, as in"):
        cli.test()
    cli.datamodule.test = {}
    with pytest.raises(ValueError, match=r"data.test: found no set; .*Fix: name a set"):
        cli.test()


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_stands_beside_a_run_s_own_config(name: str, clone: Path) -> None:
    cli = composed("curriculum.yaml", clone, name)
    (evaluation,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, Evaluation)]
    assert evaluation.metrics and cli.datamodule.test.keys() >= read(name)["data"]["test"].keys()


def test_a_benchmark_goes_behind_the_embedded_worlds_config(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its test set and its metrics are measured, and nothing of the digits."""
    coco(clone / "data")
    monkeypatch.chdir(clone)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(Command, "test", lambda self, **_: None)
    cli = Command(["test", "-c", "pocket.yaml", "-c", "eval/coco_captions.yaml", "--trainer.accelerator", "cpu"])
    assert set(cli.datamodule.test) == {"coco_captions"}
    assert any(isinstance(callback, Evaluation) for callback in cli.trainer.callbacks)
    assert not any(isinstance(callback, MatrixEvaluation) for callback in cli.trainer.callbacks)


def test_an_understanding_model_has_no_output_side(compose: Compose) -> None:
    model = compose("examples/understanding.yaml").model
    assert model.output_side is None and model.outputs == []
    assert compose("examples/images.yaml").model.outputs == ["image"]


@pytest.mark.slow
def test_the_shipped_experts_fit_the_shipped_data(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [expert for expert in EXPERTS if not (repository / "checkpoints" / "pocket" / expert).is_dir()]
    if absent:
        pytest.skip(f"checkpoints/pocket has no {', '.join(absent)}: `make pocket` trains the embedded experts")
    cli = composed("curriculum.yaml", repository)
    monkeypatch.chdir(repository)
    check(cli)
    # Nothing that the sources draw is longer than the sequences that the config allows.
    collate = cli.model.collator()
    (switch,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, StageSwitch)]
    # An objective has batches of its own kind, of prompts or of pairs.
    mixed = {name for stage in switch.stages.values() if stage.objective is None for name in stage.data or ()}
    assert mixed >= {"describe", "draw", "any_to_any", "arithmetic", "text"}
    for name in sorted(mixed):
        for index in range(100):
            assert collate.sample(cli.datamodule.sources[name][index]).ids
