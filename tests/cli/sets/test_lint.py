"""``isthmus data lint`` from the outside: formats, configs, JSON, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.cli import main
from isthmus.cli.sets.opening import PAIRS


@pytest.fixture
def alpaca(tmp_path: Path) -> Path:
    path = tmp_path / "alpaca.json"
    records = [
        {"instruction": "hi", "output": "hello"},
        {"instruction": "hi"},
        {"instruction": "hi", "output": "hello"},
    ]
    path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    return path


def code(*words: str) -> int:
    try:
        main(["data", "lint", *words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_text_tells_what_and_where(alpaca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(str(alpaca), "--format", "Alpaca") == 1
    said = capsys.readouterr().out
    assert "alpaca: 3 conversations read, 2 usable, 1 would be skipped" in said
    assert f"error    schema: 1\n           {alpaca}:6: found the fields instruction; expected output" in said
    assert f"warning  duplicate conversation: 1\n           {alpaca}:9: the same as at {alpaca}:2" in said
    assert "text characters: 2 least, 3.5 median, 5 most" in said


def test_json_and_severity(alpaca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(str(alpaca), "--format", "Alpaca", "--json", "--fail_on", "never") == 0
    told = json.loads(capsys.readouterr().out)["alpaca"]
    assert told["usable"] == 2 and told["findings"]["schema"]["severity"] == "error"
    alpaca.write_text('[{"instruction": "a", "output": "b"}, {"instruction": "a", "output": "b"}]', encoding="utf-8")
    assert code(str(alpaca), "--format", "isthmus.data.formats.Alpaca") == 0
    assert code(str(alpaca), "--format", "Alpaca", "--fail_on", "warning") == 1


def test_options_of_a_format_and_configs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.json").write_text('[{"image_name": "1.jpg", "caption": "a cat"}]', encoding="utf-8")
    draw = ["--option", "direction=draw", "--option", "target_files=false"]
    assert code(str(tmp_path / "pairs.json"), "--format", "NextGPTPairs", *draw) == 0
    assert "1 image made" in capsys.readouterr().out
    config = tmp_path / "own.yaml"
    source = f"{{class_path: isthmus.data.formats.NextGPTPairs, init_args: {{path: {tmp_path / 'pairs.json'}}}}}"
    config.write_text(f"data:\n  sources:\n    a: {source}\n  test:\n    b: {source}\n", encoding="utf-8")
    assert code(str(config)) == 1
    said = capsys.readouterr().out
    assert "a: 1 conversations" in said and "test/b: 1 conversations" in said and "no file at" in said
    assert code("pocket.yaml", "--sample", "2") == 0


@pytest.mark.parametrize("form", PAIRS)
def test_pairs_have_formats_too(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"prompt": "hi", "question": "hi", "messages": [{"role": "user", "content": "hi"}]}
    answers = {"chosen": "a", "rejected": "a", "response_1": "a", "response_2": "a", "overall_response": 1}
    if form == "Transcripts":
        answers = dict.fromkeys(("chosen", "rejected"), "\n\nHuman: hi\n\nAssistant: a")
    (tmp_path / "pairs.json").write_text(json.dumps([asked | answers]), encoding="utf-8")
    assert code(str(tmp_path / "pairs.json"), "--format", form) == 1
    assert "error    equal pair: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent.jsonl"], "absent.jsonl: found no file"),
        (["absent.jsonl", "--format", "Wrong"], "expected one of JsonLines"),
        (["absent.jsonl", "--option", "root"], "expected name=value"),
        (["absent.yaml"], "absent.yaml"),
        (["engines/ddp.yaml"], "found no sets"),
    ],
)
def test_what_cannot_be_opened_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(*words) == 2
    assert says in capsys.readouterr().err


def test_an_argument_that_a_format_lacks(alpaca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code(str(alpaca), "--format", "Alpaca", "--option", "direction=draw") == 2
    assert "direction" in capsys.readouterr().err
