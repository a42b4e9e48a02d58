"""Both distributions, made and installed where nothing of the repository is, work there as a user would use them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

QUICK = [
    *("fit", "-c", "stage1.yaml", "--training.stages.encoder_alignment.steps=2", "--data.batch_size=4"),
    *("--data.num_workers=0", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    "--trainer.limit_val_batches=0",
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The wheels, each made of its source distribution: what is missing there would be missing here."""
    out = tmp_path_factory.mktemp("dist")
    for folder in (repository, repository / "checkpoints/pocket"):
        built = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(folder)]
        subprocess.run(built, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def program(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``isthmus`` of an environment with the two wheels; libraries are those of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    where = {name: str(folder) for name in ("base", "platbase")}
    site = Path(sysconfig.get_path("purelib", vars=where))
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # .pth files in there aren't followed
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, "--no-deps", "--no-index", *map(str, wheels.glob("*.whl"))], check=True)
    return folder / "bin/isthmus"


SEVERAL = "import json, sys; from isthmus.cli import main; [main(each) for each in json.loads(sys.argv[1])]"
"""Commands one after another in one process, whose imports take most of their time."""


def said(program: Path, here: Path, *arguments: str, words: str = "") -> str:
    keep = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ISTHMUS_DEBUG")}
    command = [str(program), *arguments]
    ran = subprocess.run(command, check=False, cwd=here, env=keep, input=words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_distributions_hold_what_they_should_and_no_more(wheels: Path, repository: Path) -> None:
    (own,), (pocket,) = wheels.glob("isthmus-*.whl"), wheels.glob("isthmus_pocket-*.whl")
    names = set(zipfile.ZipFile(own).namelist())
    source = repository / "src"
    kept = {path for path in (source / "isthmus").rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    configs = {path.relative_to(repository).as_posix() for path in (repository / "configs").rglob("*.yaml")}
    wanted = {path.relative_to(source).as_posix() for path in kept} | {f"isthmus/{config}" for config in configs}
    beside = {name for name in names - wanted if ".dist-info/" not in name}
    assert wanted <= names and all(name.startswith("isthmus/examples/captioned/") for name in beside)
    assert own.stat().st_size < 10e6 and pocket.stat().st_size < 100e6  # PyPI's limit

    weights = {path.relative_to(repository).as_posix() for path in (repository / "checkpoints/pocket").rglob("*.*")}
    weights -= {f"checkpoints/pocket/{name}" for name in ("pyproject.toml", "LICENSE")}
    inside = {name for name in zipfile.ZipFile(pocket).namelist() if ".dist-info/" not in name}
    assert inside == {f"isthmus_pocket/{name}" for name in weights if (repository / name).is_file()}
    assert (repository / "checkpoints/pocket/LICENSE").read_bytes() == (repository / "LICENSE").read_bytes()
    for archive in wheels.glob("*.tar.gz"):
        assert not [name for name in tarfile.open(archive).getnames() if "tests" in name.split("/")]


@pytest.mark.slow
def test_it_trains_and_talks_in_an_empty_folder(program: Path, tmp_path: Path) -> None:
    assert said(program, tmp_path, "--version").startswith("isthmus ")
    said(program, tmp_path, *QUICK)
    bundle = tmp_path / "runs/stage1/encoder_alignment"
    experts = json.loads((bundle / "manifest.json").read_text())["experts"]
    assert experts["backbone"]["checkpoint"] == "checkpoints/pocket/llama"  # found again wherever it is opened

    elsewhere = shutil.copytree(bundle, tmp_path / "elsewhere/bundle")
    commands = [
        ["chat", "--model", str(bundle), "--max_new_tokens", "4"],
        ["export", str(elsewhere), "theirs.zip", "--license", "apache-2.0"],
        ["import", "theirs.zip"],
    ]
    python = program.with_name("python")
    told = said(python, tmp_path / "elsewhere", "-c", SEVERAL, json.dumps(commands), words="hello\n/quit\n")
    assert "Traceback" not in told and "chat:" in told
