"""What is said of a mistake in a config or on a command line: one message, with the file, the key and the likeliest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.callbacks import EarlyStopping
from torch.optim import SGD

from isthmus import cli
from isthmus.cli.configs import NamedConfigFile
from isthmus.cli.errors import user_errors
from isthmus.cli.parsing.parser import Parser
from isthmus.published import read_published


@dataclass
class Losses:
    text: float = 1.0
    alignment: float = 0.0


class Adam:
    def __init__(self, params: list[Any], lr: float = 1.0) -> None: ...


class Objective: ...


class Preference(Objective):
    def __init__(self, beta: float = 1.0) -> None: ...


@dataclass
class Stage:
    trains: Sequence[str]
    losses: Losses = field(default_factory=Losses)
    steps: int | None = None
    optimizer: Callable[[list[Any]], Adam] | None = None
    objective: Objective | None = None


class Stages:
    def __init__(self, stages: dict[str, Stage], run: list[str] | None = None, folder: str = "x") -> None: ...


class Encoder: ...


class Eye(Encoder):
    def __init__(self, checkpoint: str, modalities: Sequence[str] = ("image",)) -> None: ...


class Projector: ...


class MLP(Projector):
    def __init__(self, width: int, to: int, hidden: int = 3) -> None: ...


class Side:
    def __init__(
        self, encoders: Sequence[Encoder], projectors: Mapping[str, Callable[[int, int], Projector]]
    ) -> None: ...


def made() -> Parser:
    """As Lightning's: a subcommand with configs, a class's arguments, and a part that is chosen by its class."""
    fit = Parser()
    fit.add_argument("-c", "--config", action=NamedConfigFile)
    fit.add_class_arguments(Stages, "training")
    fit.add_subclass_arguments(Side, "side")
    parser = Parser(prog="isthmus")
    parser.add_subcommands().add_subcommand("fit", fit)
    return parser


def said(capsys: pytest.CaptureFixture[str], *args: str, run: Callable[[list[str]], Any] | None = None) -> str:
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        patch.delenv("ISTHMUS_DEBUG", raising=False)
        (run or made().parse_args)(list(args))
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("error: ") and "Namespace" not in message
    assert message.count("\n") == 1 and "usage" not in message and "Union" not in message
    return message.removeprefix("error: ").rstrip()


def part(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"{__name__}.{name}", "init_args": arguments}


def one(**fields: Any) -> dict[str, Any]:
    return {"training": {"stages": {"one": {"trains": ["x"], **fields}}}}


def side(**arguments: Any) -> dict[str, Any]:
    return {"training": {"stages": {}}, "side": part("Side", **{"encoders": [], "projectors": {}} | arguments)}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (one(step=3), "training.stages.one.step: there is no such option of Stage. Did you mean steps?"),
        (one(steps="many"), "training.stages.one.steps: found 'many'; expected an integer or null"),
        (
            one(losses={"txt": 1}),
            "training.stages.one.losses.txt: there is no such option of Stage. Did you mean losses",
        ),
        (one(losses={"text": "much"}), "training.stages.one.losses.text: found 'much'; expected float"),
        (
            one(optimizer=part("Adam", lrr=1)),
            "one.optimizer.init_args.lrr: there is no such option of Adam. Did you mea",
        ),
        (one(optimizer=part("Adamm", lr=1)), "one.optimizer: found .*Adamm; expected a class .*Did you mean .*Adam?"),
        (one(objective=part("Preference", betta=1)), "objective.init_args.betta: .* of Preference. Did you mean beta?"),
        (
            one(objective=part("Adam")),
            "one.objective: Import path .*Adam does not correspond to a subclass of Objective",
        ),
        (
            side(encoders=[part("Eye", chekpoint="x")]),
            "encoders.0.init_args.chekpoint: .* of Eye. Did you mean checkpoint",
        ),
        (side(projectors={"image": part("MLP", hiden=3)}), "projectors.image.init_args.hiden: .* Did you mean hidden?"),
        (side(projectors={"image": part("MLP", hidden="x")}), "image.init_args.hidden: found 'x'; expected an integer"),
        (side(projectors={"image": part("MLP", wings=2)}), "of MLP. Fix: take it out, or rename it to one of .*hidden"),
        (
            {"side": {"class_path": f"{__name__}.Side", "init_arg": {}}, **one()},
            "side.class_path: .*beside it only init_args may stand",
        ),
        (
            {"side": part("Side", encoders=[], projcts={}), **one()},
            "side.init_args.projcts: .*Did you mean projectors?",
        ),
        ({"training": {"stage": {}}}, "training.stage: there is no such option. Did you mean stages?"),
        ({"trainin": {"stages": {}}}, "trainin: there is no such option. Did you mean training?"),
        ({"training": {"stages": {}, "run": 3}}, "training.run: found '3'; expected list or null"),
    ],
)
def test_a_config(config: dict[str, Any], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(config))
    message = said(capsys, "fit", "-c", str(file))
    assert message.startswith(f"{file}: ") and re.search(expected.replace("?", r"\?"), message), message


def test_the_file_that_has_the_fault_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not another that has the key too, and of several values of this name the wrong one."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump(one(steps=3)))
    stages = {name: {"trains": ["x"], "steps": steps} for name, steps in {"a": 1, "b": "two", "c": 3}.items()}
    bad.write_text(yaml.safe_dump({"training": {"stages": stages}}))
    for files in ((good, bad), (bad, good)):
        args = [arg for file in files for arg in ("-c", str(file))]
        assert said(capsys, "fit", *args).startswith(f"{bad}: training.stages.b.steps: found 'two'")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["fit", "--training.fold", "3"], "--training.fold: there is no such option. Did you mean --training.folder?"),
        (
            ["fit", "--nonsense"],
            "--nonsense: there is no such option. Fix: take it out, or rename it to one of --train",
        ),
        (["fit", "--training.run", "3"], "--training.run: found '3'; expected list or null"),
    ],
)
def test_an_option(args: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, *args).startswith(expected)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "found no command; expected one of fit, validate, test, "),
        (["fti"], "found 'fti'; expected one of fit, .* Did you mean fit?"),
        (["data"], "found no command; expected one of lint, build, convert"),
        (["data", "lin"], "found 'lin'; expected one of lint, .*Did you mean lint?"),
        (["chat"], "found no --model, which must be given"),
        (["chat", "--modle", "x"], "--modle: there is no such option. Did you mean --model?"),
        (["chat", "--model", "x", "--seed", "y"], "--seed: found 'y'; expected an integer"),
        (["data", "convert"], "found no SPECS, --out, which must be given"),
        (
            ["data", "convert", "a", "b", "--to", "jsnl"],
            "--to: found 'jsnl'; expected one of shards, jsonl. Did you mean ",
        ),
    ],
)
def test_a_plain_command(args: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.match(expected.replace("?", r"\?"), said(capsys, *args, run=cli.main))


class Fetcher(Encoder):
    """As a class of a library: what it raises is no ValueError of this package."""

    def __init__(self, checkpoint: str) -> None:
        raise OSError(f"couldn't connect\nto fetch {checkpoint}")


class Holder(Encoder):
    def __init__(self, inner: Projector | Encoder | None) -> None: ...


class Refusing(Encoder):
    def __init__(self, checkpoint: str) -> None:
        read_published(EarlyStopping, Path(checkpoint))


FETCHER = part("Fetcher", checkpoint="x")
STOPPING = {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": {"monitor": "loss", "mode": "up"}}


def fails(kind: Any, value: Any) -> None:
    parser = Parser()
    parser.add_argument("--watch", type=kind)
    with user_errors():
        parser.instantiate_classes(parser.parse_object({"watch": value}))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (EarlyStopping | None, STOPPING, "EarlyStopping couldn't be made: MisconfigurationException: `mode` can be"),
        (Encoder, FETCHER, "Fetcher couldn't be made: OSError: couldn't connect"),
        (Projector | Encoder | None, FETCHER, "Fetcher couldn't be made: OSError"),
        (list[Encoder], [FETCHER], "Fetcher couldn't be made: OSError"),
        (bool | Sequence[Encoder] | dict[str, Encoder], [FETCHER], "Fetcher couldn't be made: OSError"),
        (dict[str, Encoder] | None, {"image": FETCHER}, "Fetcher couldn't be made: OSError"),
        (Encoder | None, part("Holder", inner=FETCHER), "Fetcher couldn't be made: OSError"),
        (list[Encoder] | Encoder, [part("Refusing", checkpoint="none/x")], "none/x: found no such folder; expected"),
    ],
)
def test_what_a_class_raises_as_it_is_made(
    kind: Any, value: Any, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stands: jsonargparse's list of types that it tried is left out."""
    monkeypatch.delenv("ISTHMUS_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        fails(kind, value)
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith(f"error: {expected}") and "Union" not in message
    assert message.endswith("\n(ISTHMUS_DEBUG=1 shows where)\n") and message.count("\n") <= 3
    monkeypatch.setenv("ISTHMUS_DEBUG", "1")
    with pytest.raises(ValueError, match=re.escape(expected)):
        fails(kind, value)


def test_what_a_factory_raises_when_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    parser.add_argument("--bridge", type=Callable[[list[Any]], SGD])
    given = {"class_path": "torch.optim.SGD", "init_args": {"lr": -1.0}}
    bridge = parser.instantiate_classes(parser.parse_object({"bridge": given})).bridge
    with pytest.raises(ValueError, match="SGD couldn't be made: ValueError: Invalid learning rate: -1"):
        bridge([torch.nn.Parameter(torch.ones(1))])


def test_the_whole_message_is_for_those_who_ask(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_DEBUG", "1")
    with pytest.raises(SystemExit):
        made().parse_args(["fit", "--training.run", "3"])
    message = capsys.readouterr().err
    assert "Subtypes: " in message and message.splitlines()[-1].startswith("error: --training.run: found '3'")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    from isthmus import __version__

    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"isthmus {__version__}\n"
