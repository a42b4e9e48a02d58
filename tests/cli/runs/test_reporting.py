"""``isthmus report``: from a finished evaluation's files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from evaluations import write_evaluation

from isthmus import cli


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three conversations, of which two were answered."""
    folder = write_evaluation(tmp_path / "run", {"asked/text/exact": [1.0, 0.0]})
    turns = [
        [{"role": "user", "content": f"question {place}"}, {"role": "assistant", "content": f"reference {place}"}]
        for place in range(3)
    ]
    lines = [json.dumps({"messages": own}) for own in turns]
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    (folder / "predictions").mkdir()
    answers = [{"source": "asked", "index": place, "text": f"<b>said</b> {place}"} for place in range(2)]
    (folder / "predictions/answers-0.jsonl").write_text("".join(json.dumps(own) + "\n" for own in answers))
    source = {"class_path": "isthmus.data.JsonLines", "init_args": {"path": str(tmp_path / "asked.jsonl")}}
    absent = {"class_path": "isthmus.data.JsonLines", "init_args": {"path": "gone.jsonl"}}
    data = {"data": {"sources": {"learnt": absent}, "test": {"asked": source}, "num_workers": 0}}
    (tmp_path / "run/test.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "run"


def test_the_report_is_written_anew(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["report", str(run), "--samples", "1"])
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in written] == ["report.html", "report.md"]
    page, text = (path.read_text(encoding="utf-8") for path in written)
    assert "&lt;b&gt;said&lt;/b&gt; 0" in page and "best by text/exact" in page and "question 1" in page
    assert "- reference: reference 1" in text and "- scores: text/exact 0" in text and "question 2" not in text


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        ("evaluation/metrics.json", "found no evaluation/metrics.json; expected a run"),
        ("test.yaml", "found neither evaluate.yaml nor test.yaml; expected the test sets"),
    ],
)
def test_what_is_absent_is_named(run: Path, removed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / removed).unlink()
    with pytest.raises(SystemExit):
        cli.main(["report", str(run)])
    assert said in capsys.readouterr().err
