"""The pages keep together: links lead somewhere, commands name what there is, every page is found, lines are short."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import isthmus
from isthmus.cli.configs import find_config
from isthmus.cli.plain import COMMANDS, IMPORTS, Command

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")],
    key=lambda page: page.as_posix(),
)
LONGEST = 120
OWN_PARSERS = ("fit", "validate", "test", "cache", "rehearse", "plan", "evaluate")
"""Commands whose options are a config's, too many to be listed here; `-c` of theirs is checked."""

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def parts(page: Path) -> Iterator[tuple[int, str, bool]]:
    """Number, text and whether it is in a block of code, of each line of a page."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = line.lstrip().startswith("```")
        yield number, line, fenced or fence
        fenced ^= fence


@by_page
def test_lines_are_short(page: Path) -> None:
    """A table's row and a picture can't be divided in Markdown; all else can."""
    long = [
        f"{page.relative_to(ROOT)}:{number}: {len(line)} characters"
        for number, line, in_code in parts(page)
        if len(line) >= LONGEST and (in_code or not line.lstrip().startswith(("|", "![")))
    ]
    assert not long, "\n".join(long)


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links(page: Path) -> list[tuple[str, str]]:
    """Path and anchor of each link of a page within the repository."""
    text = "\n".join(re.sub(r"`[^`]*`", "", line) for _, line, in_code in parts(page) if not in_code)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [(path, anchor) for path, _, anchor in (one.partition("#") for one in found) if ":" not in path]


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = page.parent / path if path else page
        assert target.exists(), f"{page.relative_to(ROOT)}: no {path}"
        if anchor and target.suffix == ".md":
            headings = {
                slug(line.lstrip("#")) for _, line, in_code in parts(target) if line.startswith("#") and not in_code
            }
            assert anchor in headings, f"{page.relative_to(ROOT)}: no heading #{anchor} in {path or 'it'}"


def test_every_page_is_found_from_the_first() -> None:
    found, waiting = set(), [ROOT / "README.md", ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page.suffix == ".md" and page not in found:
            found.add(page)
            waiting += [page.parent / path for path, _ in links(page) if path]
    left = [str(page.relative_to(ROOT)) for page in PAGES if page not in found and "decisions" not in page.parts]
    assert not left, f"no page leads to {', '.join(left)}: docs/index.md lists all"


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of isthmus in the page's blocks of code: its line, and its words without the program's name."""
    lines = [line.strip() for _, line, in_code in parts(page) if in_code]
    text = "\n".join(lines).replace("\\\n", " ")
    for line in text.splitlines():
        words = re.sub(r"\s+#.*$", "", line.removeprefix("$ "))
        if match := re.match(r"(?:PYTHONPATH=\S+ )?(?:\S*/)?(?:isthmus|(?:python )?train\.py) +(.*)$", words):
            given = re.sub(r"[\[\]]|\.\.\.", "", match[1]) if "[--" in match[1] else match[1]
            yield line, shlex.split(re.split(r" [|>&] ?", given)[0])


def named(words: list[str]) -> tuple[Command | None, list[str]]:
    """The plain command that words begin with, and the rest of them."""
    if words[:1] == ["import"] and words[1:2] and words[1] in IMPORTS:
        return IMPORTS[words[1]], words[2:]
    command, words = COMMANDS.get(words[0]), words[1:]
    while command is not None and words and words[0] in command.below:
        command, words = command.below[words[0]], words[1:]
    return command, words


@by_page
def test_commands_name_what_there_is(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8")
    own = {*re.findall(r"`([\w./-]+\.yaml)`", text), "mine.yaml", "experts/mine.yaml"}
    for line, words in commands(page):
        if not words:
            continue
        if words[0] in OWN_PARSERS:
            for flag, value in pairwise(words):
                if flag == "-c" and value not in own and not value.startswith("runs/"):
                    assert find_config(value), line
            continue
        if words[0].startswith("--"):
            continue  # `isthmus --version`
        command, rest = named(words)
        assert command is not None, f"{page.relative_to(ROOT)}: no command {words[0]!r}: {line}"
        known = command.parser()._option_string_actions
        for word in rest:
            option = word.partition("=")[0]
            # A modality that the page itself defines has an option, too.
            assert not option.startswith("--") or option in known or f'"{option[2:]}"' in text, (
                f"{page.relative_to(ROOT)}: no {option}: {line}"
            )


def classes(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each class that a configuration names, with its arguments."""
    if isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            yield value["class_path"], value.get("init_args") or {}
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from classes(each)


@by_page
def test_configurations_name_arguments_that_there_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^ *```yaml\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        # A part of a configuration may use an anchor that stands in another part.
        for path, given in classes(yaml.safe_load(re.sub(r"[*&](\w+)", r"\1", textwrap.dedent(block)))):
            if not path.startswith(("isthmus.", "torch.", "pytorch_lightning.")):
                continue  # a class that the page itself shows how to write
            module, _, name = path.rpartition(".")
            known = inspect.signature(getattr(importlib.import_module(module), name)).parameters
            unknown = [key for key in given if key not in known]
            said = f"{path} has no {', '.join(unknown)}; it has {', '.join(known)}"
            assert not unknown, f"{page.relative_to(ROOT)}: {said}"


@by_page
def test_files_that_are_named_are_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # of what was
        return
    named = re.findall(r"`((?:src|tests|docs|configs|examples|benchmarks)/[\w./-]+)`", page.read_text(encoding="utf-8"))
    # A decision may be named by its number alone.
    gone = [name for name in named if not (ROOT / name).exists() and not any(ROOT.glob(f"{name}-*"))]
    assert not gone, f"{page.relative_to(ROOT)}: {', '.join(gone)}"


ACTIVATE = "source .venv/bin/activate"
PROGRAMS = "python|isthmus|hf|pip|pytest|ruff|mypy|tensorboard|jupyter|pre-commit"
TYPED = rf"(?:[A-Z_]+=\S+ )*(?:{PROGRAMS}) "
"""The beginning of a command whose program is in `.venv/bin`."""


@by_page
def test_a_page_with_commands_says_where_their_programs_are(page: Path) -> None:
    """One way on all pages: the environment is active, and no command names its folder."""
    if page.name == "CHANGELOG.md":
        return
    text = page.read_text(encoding="utf-8")
    lines = list(parts(page))
    code = [in_code or line.startswith("    ") for _, line, in_code in lines]
    is_typed = [bool(re.match(rf"\s*(?:\$ )?{TYPED}", line)) for _, line, _ in lines]
    first = next((at for at, typed in enumerate(is_typed) if typed and code[at]), len(lines))
    prose = "\n".join(line for (_, line, _), is_code in zip(lines, code, strict=True) if not is_code)
    if first < len(lines) or re.search(rf"`{TYPED}[^`]*-[^`]*`", prose):
        before = [line for _, line, _ in lines[:first]]
        assert any(ACTIVATE in line for line in before), f"{page.relative_to(ROOT)}: say '{ACTIVATE}' before commands"
    assert ".venv/bin/" not in text.replace(ACTIVATE, ""), f"{page.relative_to(ROOT)}: leave out .venv/bin/"


@by_page
def test_modules_to_save_pass_the_projects_own_lint(page: Path) -> None:
    """A block that begins with a docstring is a whole module, which a reader puts into a package."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r'^```python\n(""".*?)^```$', text, re.MULTILINE | re.DOTALL):
        for command in (["check"], ["format", "--diff"]):
            options = ["--stdin-filename", str(ROOT / "src" / "own_expert.py"), "-"]
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *command, *options],
                check=False,
                input=block,
                text=True,
                capture_output=True,
                cwd=ROOT,
            )
            assert done.returncode == 0, f"{page.relative_to(ROOT)}:\n{done.stdout}{done.stderr}"


@by_page
def test_a_fix_is_called_fix(page: Path) -> None:
    assert "Mend:" not in page.read_text(encoding="utf-8")


def test_the_version_is_that_of_the_newest_release() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\](?: - \d{4}-\d\d-\d\d)?$", changes, re.MULTILINE)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert newest is not None and newest[1] == declared == isthmus.__version__
