"""The table of parts against the classes that there are, and the command that prints it."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from isthmus import cli
from isthmus.backbones import CausalBackbone
from isthmus.backbones.base import LanguageModel
from isthmus.cli.parts import KINDS, Part, all_parts, all_sets, as_json, as_text
from isthmus.data import formats
from isthmus.encoders.base import Encoder
from isthmus.generators.base import Generator
from isthmus.input_projectors.base import InputProjector
from isthmus.model import InputSide
from isthmus.output_projectors.base import OutputProjector
from isthmus.part_card import PartCard

DOCS = Path(__file__).resolve().parents[2] / "docs" / "parts"
BASES: dict[str, type] = {
    "encoders": Encoder,
    "input_projectors": InputProjector,
    "backbones": LanguageModel,
    "output_projectors": OutputProjector,
    "generators": Generator,
}
PARTS = [part for part in all_parts() if not part.card.within]
INNER = [part for part in all_parts() if part.card.within]
HEAVY = {"torch", "transformers", "diffusers", "pytorch_lightning"}


def is_left_open(member: Any) -> bool:
    """Whether a method is a subclass's duty: abstract, or it only says so."""
    function = member.fget if isinstance(member, property) else member
    code = getattr(function, "__code__", None)
    return getattr(function, "__isabstractmethod__", False) or (
        code is not None and "NotImplementedError" in code.co_names
    )


def is_concrete(owner: type) -> bool:
    """Whether a class can be named in a config: nothing of its contract is left open but what its kin replaced."""
    members = {name: inspect.getattr_static(owner, name) for name in dir(owner)}
    # Generators load in two halves, by methods of their own, instead of all at once.
    halves = {"materialize"} if issubclass(owner, Generator) else set()
    torch_own = {name for name, member in members.items() if member is inspect.getattr_static(nn.Module, name, None)}
    return not any(is_left_open(member) for name, member in members.items() if name not in halves | torch_own)


def concrete_classes(room: str) -> set[type]:
    package = importlib.import_module(f"isthmus.{room}")
    found: set[type] = set()
    for module in pkgutil.walk_packages(package.__path__, f"isthmus.{room}."):
        for member in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(member) and member.__module__ == module.name and issubclass(member, BASES[room]):
                if not member.__name__.startswith("_") and is_concrete(member):
                    found.add(member)
    return found


def named(part: Part) -> type:
    module, _, name = part.class_path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


@pytest.mark.parametrize("room", BASES)
def test_every_part_has_a_card_and_every_card_a_part(room: str) -> None:
    entries = [named(part) for part in PARTS if part.class_path.split(".")[1] == room]
    assert len(set(entries)) == len(entries), "a class is exported twice"
    there, listed = concrete_classes(room), set(entries)
    assert there <= listed, f"no card, or not exported: {sorted(c.__name__ for c in there - listed)}"
    assert listed <= there, f"no concrete parts: {sorted(c.__name__ for c in listed - there)}"


def test_cards_read_from_the_source_are_the_classes_own() -> None:
    for part in all_parts():
        assert vars(named(part))["card"] == part.card, part.name


def test_what_is_abstract_is_no_part() -> None:
    from isthmus.encoders.audio_frames import AudioFrameEncoder
    from isthmus.generators.clip_conditioned import ClipConditioned
    from isthmus.generators.diffusion import DiffusionGenerator

    assert not any(is_concrete(owner) for owner in (*BASES.values(), AudioFrameEncoder, ClipConditioned))
    assert not is_concrete(DiffusionGenerator)


def test_what_parts_take_and_give_is_what_the_classes_say() -> None:
    for part in PARTS:
        owner = named(part)
        if issubclass(owner, Generator):
            assert part.card.gives.split()[0] == owner.modality, part.name
        if issubclass(owner, Encoder) and "modalities" in vars(owner):
            assert [word.split()[0] for word in part.card.takes.split(", ")] == list(owner.modalities), part.name


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((DOCS.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {part.card.extra for part in PARTS} - {""} <= set(project["optional-dependencies"])


def row(part: Part) -> str:
    """A part's line in its page's table."""
    card = part.card
    reads = card.checkpoint + (f" (extra `{card.extra}`)" if card.extra else "")
    return f"| `{part.name}` | {card.takes} | {card.gives} | {card.widths} | {card.weights} | {reads} |"


@pytest.mark.parametrize("room", KINDS)
def test_the_docs_have_every_part_and_no_other(room: str) -> None:
    assert f"({room}.md)" in (DOCS / "README.md").read_text(encoding="utf-8")
    lines = (DOCS / f"{room}.md").read_text(encoding="utf-8").splitlines()
    rows = sorted(row(part) for part in PARTS if part.kind == KINDS[room])
    # A page has the order of its own in which its text names them.
    found = sorted(line for line in lines if line.startswith("| `"))
    assert found == rows, f"the table of docs/parts/{room}.md should be:\n" + "\n".join(rows)


def test_what_stands_within_a_part_is_there_and_has_its_argument() -> None:
    owners = {"input_side": InputSide, "language_model": CausalBackbone}
    for part in INNER:
        assert inspect.isclass(named(part)) and not issubclass(named(part), tuple(BASES.values()))
        owner, argument = part.card.within.split(".")
        accepted = str(inspect.signature(owners[owner]).parameters[argument].annotation)
        # The teacher's is a factory, as every bridge's is.
        assert accepted == "TeacherFactory | None" if owner == "input_side" else part.name in accepted


def test_the_docs_have_what_stands_within_parts() -> None:
    rows = sorted(
        f"| `{part.name}` | `{card.within}` | {card.takes} | {card.gives} | {card.weights} | {card.checkpoint} |"
        for part in INNER
        for card in [part.card]
    )
    lines = (DOCS / "README.md").read_text(encoding="utf-8").splitlines()
    found = sorted(line for line in lines if line.startswith("| `"))
    assert found == rows, "docs/parts/README.md:\n" + "\n".join(rows)


def test_text_and_json_hold_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["parts"])
    table = capsys.readouterr().out
    cli.main(["parts", "--json"])
    objects = json.loads(capsys.readouterr().out)
    listed = [*all_parts(), *all_sets()]
    assert [found["class_path"] for found in objects] == [part.class_path for part in listed]
    assert [found["kind"] for found in objects] == [part.kind for part in listed]
    assert all(any(line.startswith(part.class_path) for line in table.splitlines()) for part in all_parts())
    assert all(part.card.checkpoint in table and part.card.weights in table for part in all_parts())


def test_every_format_of_sets_is_listed_by_what_it_says() -> None:
    found = {part.name: part for part in all_sets()}
    assert {*formats.__all__, "JsonLines", "Shards"} == {*found} and {part.kind for part in found.values()} == {"set"}
    assert found["WebDataset"].class_path == "isthmus.data.formats.WebDataset"
    assert found["HuggingFace"].card.extra == "datasets" and found["CC3M"].card.extra == ""
    assert all(len(part.card.takes) > 20 and ":" not in part.card.takes[:5] for part in found.values())


def test_columns_are_aligned_and_empty_kinds_left_out() -> None:
    card = PartCard(takes="image", gives="F (B, N, D)", widths="3", code="MIT", weights="MIT", checkpoint="a file")
    part = Part("isthmus.encoders.own.Own", card)
    head, row = as_text([part]).splitlines()
    assert head.split() == ["encoder", "takes", "gives", "widths", "code", "weights", "extra", "reads"]
    assert head.index("takes") == row.index("image") and head.index("reads") == row.index("a file")
    assert json.loads(as_json([part]))[0]["kind"] == "encoder"


def test_listing_parts_is_light() -> None:
    program = "import sys; from isthmus import cli; cli.main(['parts']); print(sorted(sys.modules), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "isthmus.encoders.ImageBind" in ran.stdout
    assert not [name for name in HEAVY if f"'{name}'" in ran.stderr]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_who_leaves_early_is_no_error(options: list[str]) -> None:
    """As ``isthmus parts --json | head``; here the reader is gone before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    program = f"from isthmus import cli; cli.main({['parts', *options]})"
    ran = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ran.returncode, ran.stderr.decode()) == (141, "")
