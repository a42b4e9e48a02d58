"""``isthmus evaluate``: a saved model is measured without its config, and its stored answers without the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_benchmarks import coco
from tiny_bundle import bundle

from isthmus import cli

__all__ = ["bundle"]

CONFIG = """
data:
  test:
    digits:
      class_path: isthmus.data.JsonLines
      init_args: {path: asked.jsonl}
  num_workers: 0
trainer:
  accelerator: cpu
  callbacks+:
    - class_path: isthmus.evaluation.Evaluation
      init_args:
        metrics:
          length:
            class_path: answered_digits.Length
"""


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation" / "metrics.json").read_text())
    return {"figures": found["figures"], "protocol": found["protocol"]}


def test_a_saved_model_is_measured_and_its_answers_without_it(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [{"messages": [{"role": "user", "content": f"what is {number}?"}]} for number in range(5)]
    Path("asked.jsonl").write_text("\n".join(map(json.dumps, asked)))
    Path("eval.yaml").write_text(CONFIG)
    command = ["evaluate", "--model", str(bundle), "-c", "eval.yaml", "--out", "mine", "--max_new_tokens", "4"]
    cli.main([*command, "--data.batch_size", "2"])
    assert "digits/text/length" in capsys.readouterr().out
    first = figures(Path("mine"))
    assert first["figures"]["digits/text/length"]["n"] == 5 and first["protocol"]["sampling"]["max_new_tokens"] == 4
    lines = Path("mine/evaluation/predictions/answers-0.jsonl")
    before = lines.read_bytes()
    stored = ["evaluate", "--predictions", str(lines.parent), "-c", "eval.yaml", "--out", "again"]
    cli.main(stored)
    assert figures(Path("again")) == first
    with pytest.raises(SystemExit):
        cli.main([*stored, "--temperature", "0"])
    assert "found --temperature beside --predictions" in capsys.readouterr().err
    with monkeypatch.context() as second:  # as a launcher starts it
        second.setattr("pytorch_lightning.utilities.rank_zero_only.rank", 1)
        cli.main([*stored[:-1], "nothing"])
    assert not Path("nothing").exists()
    configured = Path("mine/evaluate.yaml").read_bytes()
    with pytest.raises(SystemExit):
        cli.main([*command[:-1], "3"])
    assert Path("mine/evaluate.yaml").read_bytes() == configured  # of the figures that are there
    capsys.readouterr()
    cli.main([*command[:-1], "3", "--overwrite"])
    assert Path("mine/evaluation/previous-1/predictions/answers-0.jsonl").read_bytes() == before
    assert figures(Path("mine"))["protocol"]["sampling"]["max_new_tokens"] == 3
    Path("asked.jsonl").write_text("\n".join(map(json.dumps, reversed(asked))))
    with pytest.raises(SystemExit):
        cli.main(stored)
    assert "found answers to other data: digits.content" in capsys.readouterr().err


def test_a_public_benchmark_runs_from_its_files_to_its_figures(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    coco(tmp_path / "data")
    limits = ["--max_new_tokens", "4", "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
    cli.main(["evaluate", "--model", str(bundle), "-c", "eval/coco_captions.yaml", "--out", "mine", *limits])
    found = figures(Path("mine"))
    assert {"coco_captions/text/cider_d", "coco_captions/text/bleu_4"} <= found["figures"].keys()
    assert all(figure["n"] == 3 for figure in found["figures"].values())
    assert found["protocol"]["test"]["coco_captions"]["choice"]["instruction"] == "Describe the image."
