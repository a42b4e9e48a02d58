"""``isthmus data replay`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.cli import main
from isthmus.data.conversations.sources import JsonLines


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("what is two plus three?\nwhat comes after six?\nhello\n")
    return path


def test_a_folder_and_a_config_give_the_same_answers(
    prompts: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    common = ["--prompts", str(prompts), "--batch_size", "2", "--max_new_tokens", "8"]
    main(["data", "replay", str(tmp_path / "a.jsonl"), "--checkpoint", "checkpoints/pocket/llama", *common])
    told = capsys.readouterr().out
    assert "a.jsonl: 3 of 3 answers kept" in told and "tokens a second" in told
    main(["data", "replay", str(tmp_path / "b.jsonl"), "--from_config", "stage3.yaml", *common, "--json"])
    assert json.loads(capsys.readouterr().out)["kept"] == 3
    assert len(JsonLines(tmp_path / "a.jsonl")) == 3
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    with pytest.raises(SystemExit):
        main(["data", "replay", str(tmp_path / "a.jsonl"), "--checkpoint", "checkpoints/pocket/llama", *common])
    assert (
        "a.jsonl: found a file; expected none. Fix: choose another name, or add --overwrite" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "found no LLM; expected one of --checkpoint, --from_config and --model"),
        (["--checkpoint", "a", "--model", "b"], "found --checkpoint and --model"),
        (["--model", "none", "--dtype", "bfloat16"], "--dtype: found it without --checkpoint"),
        (["--from_config", "none", "--chat_template", "chatml"], "--chat_template: found it without --checkpoint"),
        (["--checkpoint", "none"], "none: found no such folder"),
        (["--checkpoint", "none", "--batch_size", "0"], "batch_size: found 0"),
        (["--checkpoint", "none", "--count", "0"], "found count 0"),
        (["--checkpoint", "none", "--prompts", "none.txt"], "none.txt: found no file"),
    ],
)
def test_bad_options_are_told(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["data", "replay", str(tmp_path / "replay.jsonl"), *options])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
