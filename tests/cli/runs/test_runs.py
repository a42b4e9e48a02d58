"""``isthmus runs`` and ``isthmus compare``: on folders of the form that runs leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from isthmus import cli


def stage_folder(folder: Path, stage: str, data: dict[str, Any] | None = None) -> None:
    folder.mkdir(parents=True)
    manifest = {"format": 2, "stage": stage, "experts": {}, "components": {}, "configuration": {"seed": 0}}
    (folder / "manifest.json").write_text(json.dumps(manifest | ({} if data is None else {"data": data})))


def config(**changes: Any) -> dict[str, Any]:
    stages = {
        "one": {"steps": 1500, "data": {"describe": 1.0}, "optimizer": {"class_path": "torch.optim.AdamW"}},
        "two": {"steps": None, "epochs": 2, "data": {"draw": 2.0, "text": 1.0}},
        "never": {"steps": 3},
    }
    training = {"stages": stages, "run": ["one", "two"], "folder": "somewhere"} | changes
    return {"model": {"seed": 0}, "training": training}


def matrix(right: float, n: int = 200, **protocol: Any) -> dict[str, Any]:
    interval = {"digit": [right - 0.05, min(1.0, right + 0.05)]}
    cells = {
        "text->text": {
            "digit": right,
            "n": n,
            "chance": 0.1,
            "interval": interval,
            "by_attribute": {"digit": {"n": n}},
        },
        "image->text": {"digit": 1.0, "n": n, "interval": {"digit": [0.98, 1.0]}},
        "video->text": None,
    }
    return {"cells": cells, "confidence": 0.95} | ({"protocol": protocol} if protocol else {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run with figures, one that was broken off, one that was set aside, and an imported model."""
    runs = tmp_path / "runs"
    finished = runs / "finished"
    stage_folder(finished / "one", "one", {"mine": {"conversations": 7}})
    stage_folder(finished / "two", "two")
    (finished / "config.yaml").write_text(yaml.safe_dump(config()))
    (finished / "matrix.json").write_text(json.dumps(matrix(0.9, sampling={"temperature": 0})))
    (finished / "notes.json").write_text('["no figures"]')
    broken = runs / "group" / "broken"
    stage_folder(broken / "one", "one")
    (broken / "config.yaml").write_text(yaml.safe_dump(config(folder="elsewhere")))
    (broken / "checkpoints").mkdir()
    torch.save({"global_step": 1620, "state_dict": {}}, broken / "checkpoints/last.ckpt")
    stage_folder(finished / "previous-1" / "one", "one")
    stage_folder(runs / "imported", "two")
    return runs


def told(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    cli.main(list(args))
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(args))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_runs_are_listed_with_stages_data_steps_and_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = {block.split("  (")[0]: block for block in told(capsys, "runs", str(folder)).split("\n\n")}
    names = ("finished", "group/broken", "finished/previous-1", "imported")
    assert blocks.keys() == {str(folder / name) for name in names}
    finished = blocks[str(folder / "finished")].splitlines()
    assert finished[1:] == [
        "  one: over, 1,500 steps; mine",
        "  two: over, 2 epochs; draw, text",
        "  matrix.json: digit 0.950, the mean of 2 cells of 200 prompts",
    ]
    broken = blocks[str(folder / "group" / "broken")]
    assert "  two: not over, 2 epochs" in broken and "after 1,620 steps of all stages" in broken
    assert blocks[str(folder / "imported")].splitlines()[1:] == ["  two: over"]
    found = json.loads(told(capsys, "runs", str(folder), "--json"))
    assert {run["folder"]: run["step"] for run in found}[str(folder / "group" / "broken")] == 1620
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        assert "runs/finished" in told(capsys, "runs")


def test_a_damaged_checkpoint_manifest_or_result_leaves_the_rest_of_the_list(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "group/broken/checkpoints/last.ckpt").write_bytes(b"half")
    (folder / "finished/two/manifest.json").write_text("{")
    (folder / "imported/evaluation").mkdir()
    (folder / "imported/evaluation/metrics.json").write_text("{")
    said = told(capsys, "runs", str(folder))
    assert "two: not over, 2 epochs" in said and "last checkpoint" not in said
    assert "imported/evaluation/metrics.json: it can't be read as JSON" in said


def test_a_folder_without_runs_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "found no run in it" in refused(capsys, "runs", str(tmp_path))
    assert "found no such folder" in refused(capsys, "runs", str(tmp_path / "gone"))


def test_configs_and_figures_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = folder / "other"
    changed = config(folder="other")
    changed["training"]["stages"]["one"]["steps"] = 900
    del changed["training"]["stages"]["never"]
    stage_folder(other / "one", "one")
    (other / "config.yaml").write_text(yaml.safe_dump(changed))
    (other / "matrix.json").write_text(json.dumps(matrix(0.7, sampling={"temperature": 0})))
    (other / "captions.json").write_text(json.dumps({"model": {"n": 3, "cider_d": 1.0}, "protocol": {}}))
    said = told(capsys, "compare", str(folder / "finished"), str(other)).splitlines()
    assert said[:3] == [
        "config: 2 settings differ",
        "  training.stages.never: (1 settings) -> (none)",
        "  training.stages.one.steps: 1500 -> 900",
    ]
    (row,) = [line for line in said if "cells.text->text.digit" in line]
    assert row.split() == ["cells.text->text.digit", "0.9", "0.7", "-0.2", "intervals", "apart:", "worse"]
    assert "  2 figures are equal" in said and f"only in {other}: captions.json" in said
    assert not any("protocol" in line for line in said)


def test_settings_of_an_earlier_version_are_compared_under_todays_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, stage in (("old", {"warm_up": 0.1, "steps": 3}), ("new", {"warmup_ratio": 0.1, "steps": 3})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"training": {"stages": {"one": stage}}}))
    assert (
        told(capsys, "compare", str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")) == "config: 0 settings differ\n"
    )


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (
            matrix(0.9, sampling={"temperature": 1}),
            ["were measured by different protocols, and can't be compared", "sampling.temperature: 0 -> 1", "--anyhow"],
        ),
        (
            matrix(0.9, n=40),
            ["3 of 3 figures were measured by different protocols", "n: 200 -> 40", "cells.text->text.digit"],
        ),
    ],
)
def test_figures_of_different_protocols_are_refused(
    other: dict[str, Any], expected: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps(other))
    files = (str(folder / "finished/matrix.json"), str(file))
    said = refused(capsys, "compare", *files)
    assert all(words in said for words in expected), said
    said = told(capsys, "compare", *files, "--anyhow")
    assert "measured by different protocols (marked !)" in said and expected[1] in said
    found = json.loads(told(capsys, "compare", *files, "--anyhow", "--json"))["figures"]["figures"]
    assert all(own["protocol"] and own["test"] is None and own["verdict"] == "" for own in found["figures"].values())
    assert told(capsys, "compare", *files, "--figures", "text_only.*") == "\nfigures\n"


def test_a_file_without_a_protocol_is_said_to_have_none(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps(matrix(0.9)))
    files = (str(folder / "finished/matrix.json"), str(file))
    assert f"{file} doesn't say how it was measured: it may be by another protocol" in told(capsys, "compare", *files)
    found = json.loads(told(capsys, "compare", *files, "--json"))
    assert found["figures"]["figures"]["without_protocol"] == [str(file)]


def test_every_kind_of_result_file_has_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage_folder(tmp_path / "run" / "one", "one")
    share = {"share": 0.5, "n": 4, "interval": [0.2, 0.8]}
    ways = {way: {"recall_at_1": 0.5, "median_rank": 2.0} for way in ("medium_to_caption", "caption_to_medium")}
    talk = {"natural": {"all": {"intent": share}, "kinds": {"make": {"intent": share}}}}
    files = {
        "captions.json": {"model": {"n": 3, "cider_d": 1.0, "rouge_l": 0.5, "rouge_l_interval": [0.4, 0.6]}},
        "retrieval.json": {"image": {"encoder": {"n": 5, **ways}}},
        "talk.json": talk,
        "mine.json": {"score": 7, "seen": True},
    }
    for name, content in files.items():
        (tmp_path / "run" / name).write_text(json.dumps(content))
    assert told(capsys, "runs", str(tmp_path)).splitlines()[2:] == [
        "  captions.json: cider_d 1, rouge_l 0.5",
        "  mine.json: score 7",
        "  retrieval.json: image.encoder.medium_to_caption.recall_at_1 0.5, "
        "image.encoder.caption_to_medium.recall_at_1 0.5",
        "  talk.json: natural.all.intent 0.5",
    ]
    talk["natural"]["all"]["intent"] = {"share": 0.95, "n": 4, "interval": [0.9, 1.0]}
    (tmp_path / "better.json").write_text(json.dumps(talk))
    said = told(capsys, "compare", str(tmp_path / "run/talk.json"), str(tmp_path / "better.json"))
    (row,) = [line.split() for line in said.splitlines() if "natural.all.intent.share" in line]
    assert row == ["natural.all.intent.share", "0.5", "0.95", "+0.45", "intervals", "apart:", "better"]


def test_a_figure_without_an_interval_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, score in (("one", 0.4), ("two", 0.5)):
        model = {"n": 3, "bleu_4": score, "rouge_l": score, "rouge_l_interval": [0.3, 0.6]}
        (tmp_path / f"{name}.json").write_text(json.dumps({"model": model}))
    said = told(capsys, "compare", str(tmp_path / "one.json"), str(tmp_path / "two.json")).splitlines()
    rows = {line.split()[0]: line.split()[4:] for line in said if line.startswith("  model.")}
    assert rows == {"model.bleu_4": ["no", "interval"], "model.rouge_l": []}
    assert said[-1].startswith("  no interval: the test run computes none for this figure")


def test_what_cannot_be_compared_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = str(folder / "finished/notes.json")
    assert "found no figures" in refused(capsys, "compare", notes, notes)
    assert "found nothing there" in refused(capsys, "compare", notes.replace("notes", "gone"), notes)
    assert "found neither config.yaml nor figures" in refused(capsys, "compare", str(tmp_path), str(tmp_path))
