"""``isthmus plan`` as a user runs it: a clone without weights, a cluster, and requests that no cluster meets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_world import tiny_clone

from isthmus.cli import main

SMALL = ["--data.batch_size", "8", "--words", "4"]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose experts are tiny and have no weights."""
    folder = tiny_clone(tmp_path)
    for file in [*(folder / "experts").rglob("*.safetensors"), *(folder / "experts").rglob("*.bin")]:
        file.unlink()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["isthmus"])
    return folder


@pytest.mark.slow
def test_a_stage_on_two_machines(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = ["--devices", "4", "--nodes", "2", "--price", "2", "--json", "plan.json"]
    main(["plan", "-c", "stage1.yaml", "-c", "engines/fsdp2.yaml", *SMALL, *cluster])
    said = capsys.readouterr().out
    (plan,) = json.loads((clone / "plan.json").read_text())["plans"]
    assert plan["setting"]["engine"] == "fsdp2" and plan["rows"] == 2 and plan["fits"]
    assert {own["operation"] for own in plan["traffic"]} == {"all_gather", "reduce_scatter", "all_reduce"}
    assert {(own["ranks"], own["machines"]) for own in plan["traffic"]} == {(4, 2)}
    assert plan["hours"] == pytest.approx(plan["steps"] * plan["seconds"]["step"] / 3600)
    assert plan["cost"] == pytest.approx(2 * 4 * plan["hours"]) and plan["cache"] > 0
    assert "4 devices of 80 GiB on 2 machines" in said and "gathered layers, GiB" in said and "yes, of 72.00" in said
    assert not (clone / "runs").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--devices", "16"], "found a batch of 8 for 16 devices"),
        (["--devices", "4", "--nodes", "3"], "--nodes: found 3 for 4 devices"),
        (["--device", "H10"], "--device: found H10"),
        (["--mfu", "0"], "--mfu: found 0.0"),
        (["--headroom", "2"], "--headroom: found 2.0"),
        (["--link", "nowhere.json"], "nowhere.json: found nothing that can be read"),
        (["--engine", "single", "--devices", "2"], "found engine single with 2 devices"),
    ],
)
def test_what_no_cluster_meets_is_named(
    options: list[str], said: str, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "-c", "stage1.yaml", *SMALL, *options])
    found = " ".join(capsys.readouterr().err.split())
    assert said in found and "expected" in found and "Fix: " in found
