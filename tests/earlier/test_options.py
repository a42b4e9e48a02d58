"""Options' earlier names: refused with the present one wherever they are given, and read in what was written before."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from isthmus import AnyToAny
from isthmus.backbones.adapters.lora import LoraSettings
from isthmus.backbones.base import Sampling
from isthmus.cache.frozen import CacheSettings
from isthmus.cli.parsing.faults import Fault
from isthmus.cli.parsing.words import worded
from isthmus.cli.plain import COMMANDS
from isthmus.data import ConversationDataModule
from isthmus.earlier.options import TABLE, Renamed, known_names, present_names, refuse, renamed
from isthmus.generators import ShapE, ZeroScope
from isthmus.inference.pipeline import Pipeline
from isthmus.training import GroupPolicy, Preference, Stage

ROOT = Path(__file__).resolve().parents[2]
POCKET = ROOT / "checkpoints/pocket"
HOMES = {
    "ConversationLoader": "isthmus.data.batching.loader",
    "LoraSettings": "isthmus.backbones.adapters.lora",
    "QuantizationSettings": "isthmus.backbones.adapters.quantization",
    "PretrainedLanguageModel": "isthmus.backbones.pretrained",
    "Sampling": "isthmus.backbones.base",
    "CacheSettings": "isthmus.cache.frozen",
    "Pipeline": "isthmus.inference.pipeline",
}
"""Where those stand that their rooms don't export."""


def owners(row: Renamed) -> list[Any]:
    """The classes and functions of a row."""
    if row.package == "isthmus.generators.":
        room = import_module("isthmus.generators")
        return [getattr(room, name) for name in room.__all__]
    found = []
    for name in row.owners:
        outer, _, inner = name.partition(".")
        own = getattr(import_module(HOMES.get(outer, row.package.rstrip("."))), outer)
        found.append(getattr(own, inner) if inner else own)
    return found


@pytest.mark.parametrize("row", [row for row in TABLE if row.package != "isthmus "], ids=lambda row: str(row.names))
def test_present_names_are_taken_and_earlier_ones_are_not(row: Renamed) -> None:
    taken = [set(inspect.signature(owner).parameters) for owner in owners(row)]
    for old, new in row.names.items():
        assert any(new in names for names in taken), f"{row.owners}: nothing takes {new}"
        assert not any(old in names for names in taken), f"{row.owners}: {old} is still taken"
    for old in row.gone:
        assert not any(old in names for names in taken)


def test_commands_have_the_present_names() -> None:
    (row,) = (row for row in TABLE if row.package == "isthmus ")
    for name in row.owners:
        options = COMMANDS[name].parser().format_help()
        assert all(f"--{new} " in options for new in row.names.values())
        with pytest.raises(
            ValueError, match=r"isthmus chat: steps is called num_inference_steps now\. Fix: rename it\."
        ):
            known_names("isthmus chat", {"steps": None, "out": None}, "isthmus chat")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: LoraSettings(rank=2, alpha=4),
            "rank is called r now; alpha is called lora_alpha now. Fix: rename them.",
        ),
        (lambda: Sampling(max_tokens=3), "max_tokens is called max_new_tokens now. Fix: rename it."),
        (lambda: CacheSettings(storage="exact"), "storage is called dtype now"),
        (lambda: ConversationDataModule({}, workers=1), "workers is called num_workers now"),
        (lambda: ZeroScope(POCKET / "zeroscope", frames=3), "frames is called num_frames now"),
        (lambda: ShapE(POCKET / "shap_e", precision="float16"), "precision is called dtype now"),
        (lambda: ShapE(POCKET / "shap_e").generate(None, [1], guidance=1.0), "guidance is called guidance_scale now"),
        (lambda: Stage(["lora"], steps=1, warm_up=0.1), "warm_up is called warmup_ratio now"),
        (lambda: GroupPolicy({}, group=2), "group is called num_generations now"),
        (lambda: Preference(form="ipo"), "form is called loss_type now"),
        (lambda: AnyToAny.chat(None, "hello", steps=1), "steps is called num_inference_steps now"),
        (lambda: Pipeline.open("runs/x", guidance=1.0), "guidance is called guidance_scale now"),
    ],
)
def test_python_says_the_present_name(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError) as error:
        call()
    assert said in str(error.value)


def test_what_never_was_is_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'ranks'"):
        LoraSettings(ranks=2)  # type: ignore[call-arg]


CONFIG = {
    "data": {
        "workers": 2,
        "sources": {"workers": {"class_path": "isthmus.data.JsonLines", "init_args": {"path": "x"}}},
    },
    "model": {
        "backbone": {
            "class_path": "isthmus.model.Backbone",
            "init_args": {
                "max_tokens": 64,
                "language_model": {
                    "class_path": "isthmus.backbones.CausalBackbone",
                    "init_args": {"checkpoint": "llm", "recompute": True, "lora": {"rank": 4, "method": "dora"}},
                },
            },
        },
        "output_side": {
            "init_args": {
                "generators": [
                    {"class_path": "isthmus.generators.ZeroScope", "init_args": {"steps": 3, "precision": "float16"}},
                    {"class_path": "somebody.Generator", "init_args": {"steps": 3, "lora": {"rank": 2}}},
                ]
            }
        },
        "sampling": {"max_tokens": 8},
    },
    "training": {"stages": {"one": {"steps": 7, "warm_up": 0.1, "data": {"workers": 1.0}}}},
}


def test_a_configuration_names_every_earlier_name_at_once() -> None:
    with pytest.raises(ValueError) as error:
        refuse(CONFIG, "mine.yaml")
    head, *found = str(error.value).replace(". Fix: ", "; ").replace("mine.yaml: ", "mine.yaml; ").split("; ")
    assert head == "mine.yaml" and found[-1] == "rename them, or take them out."
    assert [said.replace("init_args.", "").partition(" is ")[0] for said in found[:-1] if " is " in said] == [
        "data.workers",
        "model.backbone.max_tokens",
        "model.backbone.language_model.recompute",
        "model.backbone.language_model.lora.rank",
        "model.output_side.generators.0.steps",
        "model.output_side.generators.0.precision",
        "model.sampling.max_tokens",
        "training.stages.one.warm_up",
    ]


def test_what_was_written_before_is_read_under_todays_names() -> None:
    found = renamed(CONFIG)
    refuse(found, "what is read")
    inner = found["model"]["backbone"]["init_args"]
    assert inner["max_length"] == 64
    assert inner["language_model"]["init_args"] == {"checkpoint": "llm", "lora": {"r": 4, "method": "dora"}}
    ours, theirs = found["model"]["output_side"]["init_args"]["generators"]
    assert ours["init_args"] == {"num_inference_steps": 3, "dtype": "float16"}
    assert theirs["init_args"] == {"steps": 3, "lora": {"rank": 2}}, "others' options are theirs"
    assert found["training"]["stages"]["one"] == {"steps": 7, "warmup_ratio": 0.1, "data": {"workers": 1.0}}
    moved = [{"class_path": "isthmus.encoders.whisper.Whisper"}, {"class_path": "isthmus.data.JsonLines"}]
    assert [each["class_path"] for each in renamed(moved)] == [
        "isthmus.encoders.speech.whisper.Whisper",
        "isthmus.data.JsonLines",
    ]
    assert "workers" in CONFIG["data"], "what was given is as it was"
    assert present_names("isthmus.training.objectives.GroupPolicy")["group"] == "num_generations"


def test_a_later_file_without_class_paths_is_held_against_the_table_too() -> None:
    for config, said in (
        ({"model": {"backbone": {"init_args": {"max_tokens": 3}}}}, "max_tokens is called max_length"),
        ({"model": {"backbone": {"language_model": {"stops": ["x"]}}}}, "stops is called stop_strings"),
        (
            {"training": {"stages": {"r": {"objective": {"init_args": {"group": 3}}}}}},
            "group is called num_generations",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            refuse(config, "later.yaml")


def test_an_option_that_only_a_parser_finds_is_named_too() -> None:
    fault = Fault(("lora",), "isthmus.backbones.LoraSettings", "", unknown="rank")
    assert worded(fault, {}).endswith("there is no such option of LoraSettings. It is called r now.")
