"""Two evaluations: what is tested, what is refused, and what is only shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluations import RUN, write_evaluation

from isthmus import cli
from isthmus.evaluation.comparing.comparison import compare_runs

FID = {"coco/image/fid": {"value": 20.0, "n": 40, "better": "lower", "interval": [19.0, 21.0], "protocol": {"n": 40}}}
BETTER = {"coco/image/fid": {**FID["coco/image/fid"], "value": 15.0, "interval": [14.0, 16.0]}}


def pair(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """The second is right more often on COCO, and as on Clotho."""
    first = {"coco/text/exact": [1.0, 0.0] * 20, "clotho/text/cider": [0.5, 0.7, 0.2]}
    second = {"coco/text/exact": [1.0] * 30 + [1.0, 0.0] * 5, "clotho/text/cider": [0.5, 0.6, 0.3]}
    write_evaluation(folder / "one", first, FID)
    write_evaluation(folder / "two", second, **{"whole": BETTER, **changes})
    return folder / "one", folder / "two"


def test_differences_are_tested_on_common_conversations(tmp_path: Path) -> None:
    found = compare_runs(*pair(tmp_path))
    exact, cider, fid = found.figures
    assert (exact.name, exact.verdict, exact.test is not None and exact.test.n) == ("coco/text/exact", "better", 40)
    assert exact.test is not None and exact.corrected == pytest.approx(2 * exact.test.p)
    assert cider.verdict == "" and cider.test is not None and cider.test.difference == pytest.approx(0.0)
    # A figure of the whole set has no scores; less of a distance is better.
    assert fid.test is None and fid.intervals_apart and fid.verdict == "better" and found.tested == 2


@pytest.mark.parametrize(
    ("changes", "refused", "said"),
    [
        ({"own": {"normalisation": "none"}}, 2, "normalisation: (none) -> none"),
        ({"protocol": {**RUN, "sampling": {"seed": 1}}}, 3, "sampling.seed: 0 -> 1"),
        ({"whole": {"coco/image/fid": {**BETTER["coco/image/fid"], "n": 30, "protocol": {}}}}, 1, "n: 40 -> 30"),
        # Of another test set only that set's figures are refused.
        ({"protocol": {**RUN, "test": {**RUN["test"], "clotho": {"content": "other"}}}}, 1, "test.clotho.content"),
    ],
)
def test_other_protocols_are_refused(tmp_path: Path, changes: dict[str, Any], refused: int, said: str) -> None:
    runs = pair(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"{refused} of 3 figures were measured by different protocols") as caught:
        compare_runs(*runs)
    assert said in str(caught.value) and "Fix: measure one of them again" in str(caught.value)
    anyhow = [row for row in compare_runs(*runs, anyhow=True).figures if row.protocol]
    assert len(anyhow) == refused and all(row.test is None and row.verdict == "" for row in anyhow)


def test_every_difference_of_a_field_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two figures that differ in the same field, with other values."""
    for run, (many, few) in (("one", (40, 3)), ("two", (30, 2))):
        write_evaluation(tmp_path / run, {"coco/text/exact": [0.0, 1.0] * many, "clotho/text/cider": [0.5] * few})
    cli.main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--anyhow"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "n: 80 -> 60" in lines and "n (of clotho/text/cider): 3 -> 2" in lines


def test_a_figure_depends_on_its_own_generator_and_set_alone(tmp_path: Path) -> None:
    """A set more, or a generator of another medium, changes nothing of the others' figures."""
    run = {**RUN, "generators": {"image": {"steps": 40}}}
    write_evaluation(tmp_path / "one", {"coco/text/exact": [1.0, 0.0]}, FID, run)
    test = {**RUN["test"], "audiocaps": {"content": "c2"}}
    other = {**run, "test": test, "generators": {"image": {"steps": 40}, "audio": {"steps": 5}}}
    write_evaluation(tmp_path / "two", {"coco/text/exact": [1.0, 1.0]}, FID, other)
    assert [row.protocol for row in compare_runs(tmp_path / "one", tmp_path / "two").figures] == [{}, {}]
    write_evaluation(tmp_path / "three", {"coco/text/exact": [1.0, 1.0]}, FID, {**run, "generators": {"image": 9}})
    with pytest.raises(ValueError, match=r"1 of 2 .*\(coco/image/fid\)"):
        compare_runs(tmp_path / "one", tmp_path / "three")


def test_answers_of_others_are_tested_beside_a_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their protocol can't say how they were made; the data is held against the model's all the same."""
    run = {**RUN, "generators": {"image": {"steps": 40}}}
    write_evaluation(tmp_path / "one", {"coco/text/exact": [1.0, 0.0] * 8}, FID, run)
    write_evaluation(tmp_path / "two", {"coco/text/exact": [1.0] * 16}, BETTER, {"test": RUN["test"]})
    found = compare_runs(tmp_path / "one", tmp_path / "two")
    assert [row.verdict for row in found.figures] == ["better", "better"] and found.tested == 1
    assert found.brought == [tmp_path / "two/evaluation/metrics.json"]
    cli.main(["compare", str(tmp_path / "one"), str(tmp_path / "two")])
    assert "two/evaluation/metrics.json doesn't say how its answers were made" in capsys.readouterr().out
    write_evaluation(tmp_path / "three", {"coco/text/exact": [1.0] * 16}, None, {"test": {"coco": {"content": "c9"}}})
    with pytest.raises(ValueError, match=r"test.coco.content: c0 -> c9"):
        compare_runs(tmp_path / "one", tmp_path / "three")


def test_the_command_shows_intervals_tests_and_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["compare", *map(str, pair(tmp_path))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "evaluation/metrics.json"
    rows = {line.split()[0]: line.split() for line in lines[2:5]}
    assert rows["coco/text/exact"][1:4] == ["0.5", "0.875", "+0.375"] and rows["coco/text/exact"][-1] == "better"
    assert rows["clotho/text/cider"][-2] == "p" and rows["coco/image/fid"][-3:] == ["intervals", "apart:", "better"]
    assert "corrected by Holm for 2 tests" in " ".join(line.strip() for line in lines)
    cli.main(["compare", *map(str, (tmp_path / "one", tmp_path / "two")), "--json", "--figures", "coco/text/*"])
    found = json.loads(capsys.readouterr().out)["figures"]["evaluation/metrics.json"]
    assert found["tested"] == 1 and found["figures"]["coco/text/exact"]["verdict"] == "better"


def test_damaged_and_absent_files_are_named(tmp_path: Path) -> None:
    one, two = pair(tmp_path)
    (two / "evaluation/scores.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(ValueError, match=r"scores.jsonl:1: found .*expected an object with id and scores.*Fix"):
        compare_runs(one, two)
    (two / "evaluation/scores.jsonl").unlink()
    (two / "evaluation/metrics.json").write_text('{"figures": {"a/text/b": {"value": 1}}}')
    with pytest.raises(ValueError, match=r"figures.a/text/b: found .*expected value, n and better.*Fix"):
        compare_runs(one, two / "evaluation")
    with pytest.raises(ValueError, match=r"found no evaluation/metrics.json.*Fix: measure it"):
        compare_runs(one, tmp_path)
