"""docs/evaluation.md keeps its word: its metric, set, config and answers, as they stand there, give its figure."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evaluation.md"


def blocks(language: str) -> list[str]:
    """The page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the page says to save."""
    answers, conversations = blocks("json")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "answers.jsonl").write_text(answers)
    (tmp_path / "colours.jsonl").write_text(conversations)
    (tmp_path / "my_metrics.py").write_text(blocks("python")[0])
    (tmp_path / "colours.yaml").write_text(blocks("yaml")[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_metrics", None)


COMMAND = ["evaluate", "--predictions", "theirs", "-c", "colours.yaml", "--out", "runs/theirs"]


def test_the_pages_metric_measures_the_pages_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"PYTHONPATH=. isthmus {' '.join(COMMAND)}" in text
    cli.main(COMMAND)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("colours/text/mentions 0.5000 ") and "`colours/text/mentions 0.5000`" in text
    own = folder / "runs" / "theirs" / "evaluation"
    figure = json.loads((own / "metrics.json").read_text())["figures"]["colours/text/mentions"]
    assert figure["n"] == 2 and figure["protocol"] == {"detail": "keywords"} and figure["interval"] == [0.0, 1.0]
    scores = [json.loads(line) for line in (own / "scores.jsonl").read_text().splitlines()]
    assert [(line["id"], line["scores"]["colours/text/mentions"]) for line in scores] == [("hat", 1.0), ("sea", 0.0)]
    assert "class_path: my_metrics.Mentions" in (folder / "runs" / "theirs" / "evaluate.yaml").read_text()


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ([*COMMAND, "--model", "runs/mine"], "found both of --model and --predictions"),
        (["evaluate", "-c", "colours.yaml", "--out", "o"], "found neither of --model and --predictions"),
        ([*COMMAND, "--data.test", "{}"], "found no set under data.test"),
        ([*COMMAND, "--trainer.callbacks", "[]"], "found no isthmus.evaluation.Evaluation among trainer.callbacks"),
        (["evaluate", "--predictions", "theirs", "-c", "colours.yaml"], "found no --out, which must be given"),
        ([*COMMAND, "-c", "absent.yaml"], "-c absent.yaml: found no such file"),
    ],
)
def test_what_is_missing_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], found: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 2 and found in capsys.readouterr().err
