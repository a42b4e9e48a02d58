"""An imported model through the command line: imported, asked, trained for one more stage, and measured."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_nextgpt import write_release
from tiny_world import tiny_clone

from isthmus import cli

PIPELINES = {"image": "stable_diffusion", "video": "zeroscope", "audio": "audioldm"}
SHORT = ["--max_new_tokens", "4", "--num_inference_steps", "1", "--device", "cpu"]
MEDIA = ["text", "image", "video", "audio"]
DATA = {
    "data": {
        "batch_size": 4,
        "num_workers": 0,
        "sources": {
            "any_to_any": {
                "class_path": "isthmus.pocket.tasks.AnyToAny",
                "init_args": {"split": "train", "size": 8, "inputs": MEDIA, "outputs": MEDIA},
            }
        },
        "validation": {},
        "test": {
            "matrix": {
                "class_path": "isthmus.pocket.cells.MatrixCells",
                "init_args": {"per_cell": 1, "inputs": MEDIA[:2], "outputs": ["text"], "arithmetic": False},
            }
        },
    },
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "callbacks": [
            {
                "class_path": "isthmus.evaluation.MatrixEvaluation",
                "init_args": {
                    "judges": {"text": {"class_path": "isthmus.pocket.judges.text.TextJudge"}},
                    "values": {"digit": 10, "colour": 6, "motion": 4},
                    "samples": 0,
                },
            }
        ],
    },
    "model": {"sampling": {"max_new_tokens": 4}},
}


@pytest.mark.slow
def test_an_imported_model_chats_trains_and_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = tiny_clone(tmp_path)
    pocket = Path("checkpoints", "pocket")
    write_release({"llama": (clone / pocket / "llama").resolve()}, clone / "pytorch_model.pt")
    monkeypatch.chdir(clone)
    experts = ["--vicuna", str(pocket / "llama"), "--imagebind", str(pocket / "imagebind")]
    for name in PIPELINES.values():
        experts += [f"--{name}", str(pocket / name)]
    cli.main(["import", "nextgpt-v1", "--delta", "pytorch_model.pt", *experts, "--out", "runs/v1"])
    said = capsys.readouterr().out
    assert "text, image, video, audio -> text, image, video, audio" in said
    assert "isthmus chat --model runs/v1/instruction_tuning" in said

    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/require image\ndraw it\n/quit\n"))
    cli.main(["chat", "--model", "runs/v1/instruction_tuning", "--out", "media", *SHORT])
    assert len(list(Path("media").glob("*.png"))) == 1

    Path("mine.yaml").write_text(yaml.safe_dump(DATA))
    configs = ["-c", "runs/v1/nextgpt.yaml", "-c", "mine.yaml"]
    cli.main(["test", *configs])
    assert json.loads(Path("runs/v1/matrix.json").read_text())["cells"]
    cli.main(["fit", *configs, "--training.init_from", "runs/v1/instruction_tuning", "--training.folder", "runs/more"])
    for part in ("input_projectors.image", "output_projectors.audio", "media_tags", "signal_rows", "lora"):
        before, after = (
            load_file(Path("runs", run, "instruction_tuning", f"{part}.safetensors")) for run in ("v1", "more")
        )
        assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)


def test_a_generator_that_is_named_has_to_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--delta", "a.pt", "--vicuna", "b", "--imagebind", "c", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        cli.main(["import", "nextgpt-v1", *files, "--zeroscope", "nowhere"])
    assert "--zeroscope: found no folder nowhere; expected a diffusers pipeline" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["import", "nextgpt-v1", *files])
    assert "error: c: found no such file or folder; expected ImageBind" in capsys.readouterr().err
