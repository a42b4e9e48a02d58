"""``isthmus rehearse`` as a user runs it: a clone without weights, and a checkpoint that nobody knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_world import tiny_clone

from isthmus.cli import main
from isthmus.cli.rehearse import Rehearsal
from isthmus.training import StageSwitch
from isthmus.training.running.callbacks import callbacks_of

SMALL = ["--data.batch_size", "5", "--words", "4"]


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
def test_a_stage_alone_as_json(
    clone: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    main(["rehearse", "-c", "stage1.yaml", "--json", *SMALL])  # which would go on from no other stage's weights
    found = json.loads(capsys.readouterr().out)
    assert list(found["stages"]) == ["encoder_alignment"] and found["answer"]["flops"]["LLM"] > 0
    assert found["parts"]["encoder ImageBind"]["trained"] == 0
    assert found["parts"]["input projector points"]["trained"] > 0
    assert not (clone / "runs").exists()
    assert not [str(warning.message) for warning in recwarn if "heckpoint" in str(warning.message)]  # it writes none


def test_a_missing_checkpoint_is_named(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llm = ["--model.backbone.init_args.language_model.init_args.checkpoint", "checkpoints/mine"]
    with pytest.raises(SystemExit, match="2"):
        main(["rehearse", "-c", "stage2.yaml", *llm])
    said = capsys.readouterr().err
    assert "checkpoints/mine" in said and "vicuna-7b-v1.5" in said and "Fix: fetch" in said


def test_an_unknown_stage_is_told_with_those_that_are_known(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["rehearse", "-c", "stage1.yaml", "--training.run", "[encodr_alignment]"])
    assert "unknown stage 'encodr_alignment'; known: encoder_alignment" in capsys.readouterr().err


def test_all_stages_are_meant_where_none_is_named(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rehearsal, "fit", lambda self, **kwargs: None)
    command = Rehearsal(["fit", "-c", "stage1.yaml", "--training.run", "null"], clone / "published")
    (switch,) = callbacks_of(command.trainer, StageSwitch)
    assert "encoder_alignment" in switch.names and len(switch.names) > 1
