"""The project's own files agree: environment.yml, constraints.txt, the Makefile and the imports with pyproject.toml."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# What a module is called where its distribution is called otherwise.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "packaging": "pytest"}
# Declared because a library loads them for us: nothing here imports them by name.
LOADED_FOR_US = {
    "jinja2": "transformers renders chat templates with it",
    "tensorboard": "Lightning's default logger writes with it",
    "jsonargparse": "LightningCLI is built on it",
    "ipykernel": "nbclient starts it",
    "nbclient": "executes the notebooks",
    "nbconvert": "makes pages of the notebooks",
    "nbformat": "reads the notebooks",
    "matplotlib": "the notebooks draw with it",
    "build": "a test makes the distributions with it",
    "hatchling": "build calls it",
    "pystoi": "torchmetrics computes STOI with it",
    "python-multipart": "starlette reads forms with it",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
}
NOT_OURS = {"torchvision", "torchaudio"}


@cache
def project() -> dict[str, Any]:
    """The ``[project]`` table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*extras: str) -> dict[str, Requirement]:
    """The base requirements and those of the extras, by canonical name; isthmus's own extras are followed."""
    lines = list(project()["dependencies"])
    waiting = list(extras)
    while waiting:
        for line in project()["optional-dependencies"][waiting.pop()]:
            requirement = Requirement(line)
            if requirement.name == "isthmus":
                waiting.extend(requirement.extras)
            else:
                lines.append(line)
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


@cache
def constraints() -> dict[str, Requirement]:
    """The pins of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    by_name = {canonicalize_name(pin.name): pin for pin in pins}
    assert len(by_name) == len(pins), "constraints.txt names a distribution twice"
    return by_name


def third_party(*folders: str) -> dict[str, set[str]]:
    """Distributions that the Python files import, each with those files; neither Python's own library nor isthmus."""
    found: dict[str, set[str]] = {}
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    helpers = {name for path in (ROOT / "tests").rglob("*.py") for name in (path.stem, path.parent.name)}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in (full.split(".")[0] for full in names):
                if name not in sys.stdlib_module_names | helpers | {"isthmus"}:
                    distribution = canonicalize_name(DISTRIBUTIONS.get(name, name))
                    found.setdefault(distribution, set()).add(str(path.relative_to(ROOT)))
    return found


def test_environment_yml_states_the_same_requirements() -> None:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = [line for line in dependencies if isinstance(line, str)]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    options = [line for line in pip if line.startswith("-")]
    stated = [Requirement(line) for line in pip if not line.startswith("-")]

    expected = {(name, str(found.specifier), *sorted(found.extras)) for name, found in requirements("test").items()}
    assert {(canonicalize_name(r.name), str(r.specifier), *sorted(r.extras)) for r in stated} == expected
    assert conda == [f"python{project()['requires-python']}", "pip"]
    assert options == ["-c constraints.txt", "-e ."]


def test_environment_yml_names_the_upstream_references_as_comments() -> None:
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    for repository in ("facebookresearch/ImageBind", "salesforce/ULIP"):
        naming = [line for line in lines if repository in line]
        assert naming and all(line.lstrip().startswith("#") for line in naming)


def test_constraints_pin_a_version_that_every_bound_accepts() -> None:
    for name, requirement in requirements("dev").items():
        assert name in constraints(), f"constraints.txt lacks {name}"
        (pin,) = constraints()[name].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), f"{requirement} against {pin}"


def test_constraints_pin_everything_that_comes_along() -> None:
    waiting = list(requirements("test").values())
    seen: set[str] = set()
    missing: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = str(requirement)
        # torch pins its platform's own libraries itself.
        if key in seen or name.startswith(("nvidia-", "cuda-", "triton")) or name == "setuptools":
            continue
        seen.add(key)
        if name not in constraints():
            missing.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # not for this platform
        for line in lines:
            inner = Requirement(line)
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    assert not missing, f"constraints.txt lacks {sorted(missing)}"


def test_every_bound_explains_itself() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = text[text.index("\ndependencies = [") : text.index("\n[project.scripts]")].splitlines()
    stated = [line for line in lines if line.startswith('    "')]
    declared = {
        canonicalize_name(name)
        for name in requirements("dev", "timm", "liger", "lmms", "fidelity", "loggers", "pocket")
    }
    explained = {canonicalize_name(Requirement(line.split('"')[1]).name) for line in stated if "  # " in line}
    assert explained - {"isthmus"} == declared


def test_what_is_imported_is_declared() -> None:
    extras = ("timm", "liger", "lmms", "fidelity", "heic", "las", "datasets", "loggers", "metrics", "serve", "judge")
    declared = requirements(*extras)
    undeclared = {name: where for name, where in third_party("src").items() if name not in declared}
    assert not undeclared, f"src imports what pyproject.toml doesn't require: {undeclared}"
    declared = requirements("test", "timm", "liger", "lmms", "fidelity")
    undeclared = {name: where for name, where in third_party("tests").items() if name not in declared}
    assert not undeclared, f"tests import what the test extra doesn't require: {undeclared}"


def test_what_is_declared_is_used() -> None:
    used = set(third_party("src", "tests")) | set(LOADED_FOR_US)
    assert not set(requirements("test")) - used, f"nobody uses {sorted(set(requirements('test')) - used)}"


def test_torchvision_and_torchaudio_stay_out() -> None:
    assert not NOT_OURS & (set(requirements("dev")) | set(constraints()) | set(third_party("src", "tests")))


def test_version_is_the_same_everywhere() -> None:
    import isthmus

    assert isthmus.__version__ == project()["version"]
    assert f"## [{project()['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["quickstart", "test", "test-fast", "lint", "pocket"])
def test_make_targets_do_their_own_setup(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    ran = subprocess.run(
        ["make", "--dry-run", target], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    steps = ran.stdout
    torch = next(str(pin) for name, pin in constraints().items() if name == "torch")
    order = ["-m venv .venv", f"install --quiet --no-compile '{torch}'", "-c constraints.txt -e .\n"]
    order += ["-c constraints.txt -e '.[test]'"] * (target in ("test", "test-fast", "lint"))
    order += ["-c constraints.txt -e '.[dev]'"] * (target == "lint")
    positions = [steps.find(step) for step in order]
    assert -1 not in positions and positions == sorted(positions), steps
    assert ("[test]" in steps) == (len(order) > 3), "whoever runs a model doesn't need what tests need"
    assert "index-url" not in steps, "where packages come from is the user's choice (PIP_INDEX_URL)"


def test_make_test_timm_keeps_to_an_environment_of_its_own(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-timm.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    ran = subprocess.run(
        ["make", "--dry-run", "test-timm"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    (torch,) = constraints()["torch"].specifier
    merged = "constraints-timm.txt constraints.txt > .venv-timm/constraints.txt"
    wanted = f"-c .venv-timm/constraints.txt -c constraints-timm.txt 'torch==={torch.version}'"
    extras, tested = (
        "-e '.[test,timm,liger,lmms,fidelity]'",
        '.venv-timm/bin/python -m pytest -m "timm or liger or lmms"',
    )
    order = ["-m venv .venv-timm", merged, wanted, extras, tested]
    positions = [ran.stdout.find(step) for step in order]
    assert -1 not in positions and positions == sorted(positions), ran.stdout
    assert ".venv/" not in ran.stdout and "index-url" not in ran.stdout
    pins = (ROOT / "constraints-timm.txt").read_text(encoding="utf-8").splitlines()
    named = {Requirement(pin).name: Requirement(pin) for pin in pins if not pin.startswith("#")}
    # The file says for each of these why lmms-eval wants an older one; pip reads one pin of each.
    older = {"av", "protobuf", "python-dateutil"}
    assert set(named) & {str(pin.name) for pin in constraints().values()} == older
    (tmp_path / ".venv-timm").mkdir()
    (merge,) = (line for line in ran.stdout.splitlines() if merged in line)
    subprocess.run(merge, shell=True, cwd=tmp_path, check=True)
    left = (tmp_path / ".venv-timm" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert {Requirement(pin).name for pin in left if not pin.startswith("#")} == {
        pin.name for pin in constraints().values()
    } - older
    pinned_of = {"timm": "timm", "liger": "liger-kernel", "lmms": "lmms-eval", "fidelity": "torch-fidelity"}
    for extra, name in pinned_of.items():
        (pinned,) = {canonicalize_name(own): pin for own, pin in named.items()}[name].specifier
        assert requirements(extra)[name].specifier.contains(pinned.version)


def test_files_that_are_run_can_be() -> None:
    scripts = [ROOT / ".ci/run", *sorted((ROOT / "configs/engines").glob("*.sh"))]
    assert len(scripts) == 4
    for script in scripts:
        assert os.access(script, os.X_OK), f"{script} isn't executable: chmod +x"
        subprocess.run(["bash", "-n", str(script)], check=True)


def test_decisions_are_numbered_without_gaps() -> None:
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text(encoding="utf-8")
        headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], record.name
        assert text.startswith(f"# {int(record.name[:4])}. "), record.name
