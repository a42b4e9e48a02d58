"""Configs of public benchmarks: each reads a miniature of its official layout, and names metrics that there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_benchmarks import write_benchmarks

from isthmus.cli.evaluate import parser
from isthmus.evaluation import Evaluation

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "eval"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith("pocket_"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with every benchmark where the configs look."""
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks")).parent


@pytest.mark.parametrize("name", NAMES)
def test_a_config_reads_its_benchmark(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    said = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    if name == "fid_30k":
        said["data"]["test"]["fid_30k"]["init_args"]["size"] = 2  # of the three captions that there are
    Path("own.yaml").write_text(yaml.safe_dump(said))
    made = parser()
    objects = made.instantiate_classes(made.parse_args(["-c", "own.yaml", "--out", "out"]))
    (evaluation,) = objects.trainer.callbacks
    assert isinstance(evaluation, Evaluation) and evaluation.metrics
    for source in objects.data.test.values():
        assert len(source) and source[0].prompt().messages and source[0].details["id"]
    assert set(objects.data.test) == set(said["data"]["test"]) and said.keys() == {"data", "trainer"}


def test_every_benchmark_has_a_config_and_a_row() -> None:
    from isthmus.data.formats import benchmarks

    named = "".join((CONFIGS / f"{name}.yaml").read_text() for name in NAMES)
    assert [name for name in benchmarks.__all__ if f"benchmarks.{name}\n" not in named] == []
    page = (ROOT / "docs" / "public_benchmarks.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in page] == [], (
        "docs/public_benchmarks.md says where to get it"
    )
