"""A folder of runs in tables: what stands in one, what is marked, and every form of it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from evaluations import RUN, write_evaluation

from isthmus import cli
from isthmus.evaluation.comparing.leaderboard import leaderboard

FIGURES = {"coco/text/exact", "coco/image/fid"}


def fid(value: float) -> dict[str, dict[str, object]]:
    interval = [value - 1, value + 1]
    return {"coco/image/fid": {"value": value, "n": 40, "better": "lower", "interval": interval, "protocol": {}}}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two that can't be told apart, a worse one, one of other sampling, and one of another extractor."""
    write_evaluation(tmp_path / "a", {"coco/text/exact": [1.0] * 30 + [0.0] * 10}, fid(10.0))
    write_evaluation(tmp_path / "group/b", {"coco/text/exact": [1.0] * 29 + [0.0] * 10 + [1.0]}, fid(11.5))
    write_evaluation(tmp_path / "c<i>", {"coco/text/exact": [1.0] * 5 + [0.0] * 35}, fid(30.0))
    write_evaluation(tmp_path / "other", {"coco/text/exact": [1.0] * 40}, fid(1.0), {**RUN, "sampling": {"seed": 1}})
    whole = fid(2.0)
    whole["coco/image/fid"]["protocol"] = {"extractor": "dino"}
    write_evaluation(tmp_path / "d", {"coco/text/exact": [0.0] * 40}, whole)
    (tmp_path / "d/evaluation/previous-1").mkdir()
    (tmp_path / "d/evaluation/previous-1/metrics.json").write_text("{}")
    return tmp_path


def test_a_table_is_of_one_protocol_and_marks_what_cannot_be_told_apart(runs: Path) -> None:
    first, second = leaderboard(runs)
    assert list(first.runs) == ["a", "c<i>", "d", "group/b"] and list(second.runs) == ["other"]
    exact, *distances = first.columns
    assert exact.name == "coco/text/exact" and exact.ties == {"a", "group/b"} and set(exact.cells) == set(first.runs)
    # By another extractor it is another column.
    assert [(set(own.cells), own.ties) for own in distances] == [
        ({"a", "c<i>", "group/b"}, {"a", "group/b"}),
        ({"d"}, frozenset()),
    ]


def test_runs_are_sorted_by_a_figure_and_chosen_by_pattern(runs: Path) -> None:
    (first, _) = leaderboard(runs, by="coco/image/fid")
    assert list(first.runs) == ["a", "group/b", "c<i>", "d"]
    (only, _) = leaderboard(runs, figures=["*/exact"])
    assert {column.name for column in only.columns} == {"coco/text/exact"}
    with pytest.raises(ValueError, match=r"--by coco/nothing: found no such figure; expected of coco/text/exact"):
        leaderboard(runs, by="coco/nothing")
    with pytest.raises(ValueError, match=r"--figures audio/\*: found no such figure"):
        leaderboard(runs, figures=["audio/*"])


def test_every_form_holds_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(form: str) -> str:
        cli.main(["leaderboard", str(runs), "--format", form])
        return capsys.readouterr().out

    markdown = told("md").splitlines()
    assert markdown[0] == "## Protocol 1" and "| a       | **0.75**" in markdown[4]
    assert "**10** [9, 11]" in markdown[4] and "coco/image/fid ↓ (" in markdown[2]
    rows = list(csv.DictReader(io.StringIO(told("csv"))))
    assert {row["figure"] for row in rows} == FIGURES
    assert {
        (row["run"], row["best"]) for row in rows if row["figure"] == "coco/text/exact" and row["table"] == "1"
    } == {*(("a", "1"), ("group/b", "1"), ("c<i>", "0"), ("d", "0"))}
    found = json.loads(told("json"))
    assert found[0]["figures"][0]["cells"]["a"]["value"] == 0.75 and found[1]["runs"] == ["other"]
    page = told("html")
    assert "c&lt;i&gt;" in page and "<i>" not in page and "sampling.seed: 0 → 1" in page
    assert "<script" not in page and "http:" not in page and "https:" not in page and "url(" not in page


def test_older_files_are_ranked_where_there_are_no_others(tmp_path: Path) -> None:
    for name, digit in (("one", 0.4), ("two", 0.9)):
        (tmp_path / name).mkdir()
        cell = {"digit": digit, "n": 40, "interval": {"digit": [digit - 0.05, digit + 0.05]}}
        (tmp_path / name / "matrix.json").write_text(json.dumps({"cells": {"text->image": cell}, "protocol": {}}))
    (table,) = leaderboard(tmp_path, by="matrix/cells.text->image.digit")
    assert list(table.runs) == ["two", "one"] and table.columns[0].ties == {"two"}


def test_a_folder_without_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found no run with figures in it.*Fix"):
        leaderboard(tmp_path)
    with pytest.raises(ValueError, match=r"found no such folder.*Fix"):
        leaderboard(tmp_path / "gone")
