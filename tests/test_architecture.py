"""The house rules that a reader relies on: imports run one way, files stay short, every function is annotated."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
LONGEST_FILE = 350
FULLEST_FOLDER = 16
LONGEST_MEDIAN = 150
HEAVIEST_CHECKOUT = 40_000_000
"""Bytes of weights that a clone brings; each version of them stays in the history as well."""

# Floor by floor: a room may import from the floors below it and from itself, never from its neighbours.
FLOORS: list[set[str]] = [
    {"layout", "earlier", "exports", "part_card", "modalities", "hub"},
    {"types", "paths", "frozen"},
    {"vocabulary", "losses", "compiling", "precision", "writing", "worded", "published", "request", "display"},
    {"batch_layout"},
    {"data", "encoders", "input_projectors", "backbones", "output_projectors", "generators"},
    {"cache"},
    {"model"},
    {"training"},
    {"evaluation", "inference", "importing"},
    {"serving"},
    {"cli"},
    {"pocket"},
]
MAY_NOT_BE_IMPORTED = "pocket"
IN_ANOTHER_ENVIRONMENT = {"lmms_eval"}
"""Modules that derive from classes of these can be imported in .venv-timm alone (see the Makefile)."""
HEAVY = {"torch", "transformers", "diffusers", "pytorch_lightning", "peft", "scipy", "sklearn", "numpy", "av", "PIL"}


@dataclass(frozen=True)
class Import:
    """One import of an isthmus module: where it stands, and what it names."""

    path: Path
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(SOURCE)}:{self.line} imports {self.target}"


@cache
def files() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "isthmus").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def room(module: str) -> str | None:
    """``isthmus.encoders.imagebind.encoder`` -> ``encoders``; the package itself has none."""
    return module.split(".")[1] if "." in module else None


def imports(module: str) -> Iterator[Import]:
    """What a module imports from isthmus: by statement, relative or absolute, or by ``import_module("...")``."""
    path = files()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree(path)):
        targets: list[str] = []
        match node:
            case ast.Import(names=names):
                targets = [name.name for name in names]
            case ast.ImportFrom(module=source, names=names, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*above, *([source] if source else [])])
                named = [name.name for name in names if name.name != "__version__"]
                targets = [f"{base}.{name}" if f"{base}.{name}" in files() else base for name in named]
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[first, *_]):
                targets = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        for target in targets:
            if target.split(".")[0] == "isthmus":
                yield Import(path, node.lineno, target)  # type: ignore[attr-defined]


def test_every_room_is_known() -> None:
    rooms = {name for module in files() if (name := room(module)) is not None}
    unknown = rooms - set().union(*FLOORS)
    assert not unknown, f"{sorted(unknown)}: put new rooms on a floor of tests/test_architecture.py, and into the guide"


def test_imports_run_one_way() -> None:
    floor_of = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    wrong = []
    for module in files():
        own = room(module)
        if own is None:
            continue  # the package's own lazy exports
        for found in imports(module):
            target = room(found.target)
            if target is None:
                wrong.append(f"{found}: import from the room itself, not from the package's lazy exports")
            elif target != own and floor_of[target] >= floor_of[own]:
                wrong.append(str(found))
    assert not wrong, "imports against the order of the house:\n" + "\n".join(wrong)


def test_nothing_imports_the_pocket_world() -> None:
    wrong = [
        str(found)
        for module in files()
        if room(module) != MAY_NOT_BE_IMPORTED
        for found in imports(module)
        if room(found.target) == MAY_NOT_BE_IMPORTED
    ]
    assert not wrong, "only configs name the pocket world:\n" + "\n".join(wrong)


def test_no_module_imports_what_imports_it() -> None:
    """Imports for types and imports inside functions are dependencies, too: a reader has to follow them."""
    graph = {
        module: {found.target for found in imports(module) if found.target in files()} - {module}
        for module in files()
        if module != "isthmus"  # the package's own lazy exports
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("these modules import each other: " + " <- ".join(error.args[1]))


def test_files_stay_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files().values()}
    long = {str(path.relative_to(SOURCE)): lines for path, lines in lengths.items() if lines > LONGEST_FILE}
    assert not long, f"over {LONGEST_FILE} lines, split by idea: {long}"
    assert statistics.median(lengths.values()) <= LONGEST_MEDIAN


def test_folders_hold_few_files() -> None:
    """A folder is one idea; formats of sets are many of one kind."""
    counts = Counter(path.parent for path in files().values() if path.parent.name != "formats")
    full = {str(folder.relative_to(SOURCE)): count for folder, count in counts.items() if count > FULLEST_FOLDER}
    assert not full, f"over {FULLEST_FOLDER} files, split by idea: {full}"


def test_shipped_weights_stay_small() -> None:
    folders = (SOURCE.parent / "checkpoints" / name for name in ("pocket", "talk"))
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in {".safetensors", ".pt"}]
    assert 0 < sum(file.stat().st_size for file in files) <= HEAVIEST_CHECKOUT


def test_no_modules_forward_is_replaced() -> None:
    """A closure over a module, set on an instance, is shared by its copies, and can't be pickled."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in files().values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == "forward"
    ]
    assert not wrong, f"{wrong}: use hooks, module.compile() or a module of its own (docs/decisions/0012)"


def test_every_function_is_annotated() -> None:
    bare = []
    for path in files().values():
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            given = node.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            arguments += [extra for extra in (given.vararg, given.kwarg) if extra is not None]
            missing = [
                argument.arg
                for argument in arguments
                if argument.annotation is None and argument.arg not in ("self", "cls")
            ]
            if node.returns is None:
                missing.append("return")
            if missing:
                bare.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}: {', '.join(missing)}")
    assert not bare, "not annotated:\n" + "\n".join(bare)


def test_every_public_method_is_documented_where_it_first_stands() -> None:
    bare = []
    for name in files():
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            assert error.name in IN_ANOTHER_ENVIRONMENT, f"{name}: {error}"
            continue
        classes = [member for member in vars(module).values() if inspect.isclass(member) and member.__module__ == name]
        for owner in classes:
            for method, value in vars(owner).items():
                function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                overrides = any(method in vars(base) for base in owner.__mro__[1:])
                if inspect.isfunction(function) and function.__module__ == name and not method.startswith("_"):
                    if not overrides and not function.__doc__:
                        bare.append(f"{name}.{owner.__name__}.{method}")
    assert not bare, "say what these do, with shapes, units and errors:\n" + "\n".join(bare)


def test_import_is_light() -> None:
    program = "import isthmus, json, sys; isthmus.__version__, dir(isthmus); print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(ran.stdout)}
    assert "isthmus" in loaded
    assert not loaded & HEAVY, f"import isthmus loads {sorted(loaded & HEAVY)}"


def test_lazy_exports_are_the_rooms_own() -> None:
    import isthmus
    from isthmus import model, training, types

    for home in (model, training, types):
        for name in (name for name in isthmus.__all__ if isthmus._HOMES.get(name) == home.__name__):
            assert getattr(isthmus, name) is getattr(home, name)
    assert set(isthmus._HOMES) == set(isthmus.__all__) - {"__version__"}
    assert set(isthmus.__all__) <= set(dir(isthmus))
    with pytest.raises(AttributeError, match=r"no attribute 'AnyToAll'.*AnyToAny"):
        isthmus.AnyToAll  # noqa: B018


def test_the_guide_walks_from_the_door_to_a_loss_and_from_words_to_pixels() -> None:
    """Each path is at most eight files, and these are there."""
    guide = (SOURCE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    walks = {
        heading: re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)
        for heading, section in re.findall(r"^## (From .+?)\n(.+?)(?=^## )", guide, re.MULTILINE | re.DOTALL)
    }
    assert len(walks) == 2 and all(1 < len(steps) <= 8 for steps in walks.values()), walks
    named = set(re.findall(r"`((?:src/isthmus/|tests/|docs/|train\.py)[\w/.]*)`", guide))
    assert named >= {step for steps in walks.values() for step in steps}
    missing = [path for path in named if not list(SOURCE.parent.glob(f"{path}*"))]
    assert not missing, f"docs/architecture.md names {missing}"
