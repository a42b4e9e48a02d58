"""``isthmus export`` and ``isthmus import``, and commands beside experts that lie elsewhere, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from isthmus import AnyToAny, cli
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints
from isthmus.training.checkpoints.settings import CheckpointSettings

SHORT = ["--max_new_tokens", "2", "--num_inference_steps", "1", "--device", "cpu"]


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(args))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_model_goes_from_one_layout_to_another(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Experts of the user's own: the embedded ones are found wherever the package is.
    stage = shutil.copytree(bundle, tmp_path / "run" / "stage")
    manifest = stage / "manifest.json"
    manifest.write_text(manifest.read_text().replace("checkpoints/pocket/", "checkpoints/own/"))
    Path("run/matrix.json").write_text(json.dumps({"cells": {"text->text": {"digit": 0.5, "n": 4}}}))
    cli.main(["export", "run/stage", "ours.zip"])
    said = capsys.readouterr().out
    assert "exported: ours.zip" in said and "--license states yours" in said
    models = shutil.copytree(bundle.parents[2] / "checkpoints" / "pocket", tmp_path / "models")
    cli.main(["import", "ours.zip", "--out", "theirs"])
    said = capsys.readouterr().out
    assert "backbone: CausalBackbone checkpoints/own/llama (not found here)" in said
    assert "chat:     isthmus chat --model theirs --experts_root FOLDER" in said
    assert "- matrix.json: digit 0.500, the mean of 1 cells of 4 prompts" in Path("theirs/README.md").read_text()

    request = ["generate", "--model", "theirs", "--text", "hi", "--out", "answer", *SHORT]
    said = refused(capsys, *request)
    assert "theirs: found no " in said and "backbone (checkpoints/own/llama)" in said and "--experts ROLE=PATH" in said
    (models / "llama").rename(tmp_path / "llm")
    cli.main([*request, "--experts", "backbone=llm", "--experts_root", "models"])
    assert Path("answer/reply.json").is_file()

    cli.main(["import", "ours.zip", "--experts", "backbone=llm", "--experts_root", "models"])
    said = capsys.readouterr().out
    assert f"expert:   backbone: CausalBackbone {tmp_path}/llm\n" in said and "isthmus chat --model runs/ours\n" in said
    Path("set.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}) + "\n")
    cli.main(["data", "lint", "set.jsonl", "--model", "runs/ours", "--fail_on", "never"])
    assert "1 usable" in capsys.readouterr().out


def test_a_checkpoint_is_exported_as_its_stage_is(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model, manifest = AnyToAny.from_checkpoint(bundle), json.loads((bundle / "manifest.json").read_text())
    shutil.copytree(bundle.parents[2] / "checkpoints", tmp_path / "checkpoints")
    run = tmp_path / "run"
    checkpoint = {
        "state_dict": {f"model.{name}": own for name, own in model.state_dict().items()},
        "callbacks": {"StageSwitch": {"names": ["earlier", manifest["stage"]], "index": 1}},
        "global_step": 3,
    }
    RunCheckpoints(CheckpointSettings(distributed=True)).save_checkpoint(checkpoint, run / "checkpoints" / "last.ckpt")
    assert "run/config.yaml: it can't be read" in refused(capsys, "export", "run/checkpoints/last.ckpt", "ours")
    (run / "config.yaml").write_text(yaml.safe_dump({"model": manifest["configuration"]}))
    cli.main(["export", "run/checkpoints/last.ckpt", "ours"])
    found = json.loads(Path("ours/manifest.json").read_text())
    assert (found["stage"], found["components"]) == (manifest["stage"], manifest["components"])


def test_what_cannot_be_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gone.zip: found no such file" in refused(capsys, "import", "gone.zip", "--out", str(tmp_path / "out"))
    assert "found something of that name" in refused(capsys, "import", "gone.zip", "--out", str(tmp_path))
    assert "found no FILE, which must be given" in refused(capsys, "import")
    assert "--delta" in refused(capsys, "import", "nextgpt-v1")
