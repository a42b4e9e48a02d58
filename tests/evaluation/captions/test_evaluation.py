"""Caption metrics of a test run: a manifest of real files, a tiny model, and what is written about its replies."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from tiny_world import tiny_experts, tiny_model

from isthmus.data.formats.manifest import ManifestSource
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import CaptionEvaluation
from isthmus.evaluation.captions.metrics import caption_report
from isthmus.model import Reply
from isthmus.training import TrainingModule
from isthmus.types import Batch


def captioned(folder: Path, captions: list[str]) -> ManifestSource:
    folder.mkdir()
    lines = []
    for number, caption in enumerate(captions):
        Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
        record = {"id": f"set/{number}", "modality": "image", "path": f"{number}.png", "caption": caption}
        lines.append(json.dumps(record | {"split": "test"}))
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return ManifestSource(folder / "manifest.jsonl", splits=["test"])


class Kept(pl.Callback):
    """What the model said, by sample."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def on_test_batch_end(self, *given: Any, **others: Any) -> None:
        replies, batch = given[2], given[3]
        for reply, details in zip(replies, batch.details, strict=True):
            self.texts[details["id"]] = reply.text


def test_a_test_run_reports_captions_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = ["a red cat", "a dog", "a dog", "the sea", "a hat"]
    model = tiny_model(tiny_experts(tmp_path / "experts"), max_tokens=1024)
    data = ConversationDataModule({}, test={"set": captioned(tmp_path / "set", captions)}, batch_size=2)
    evaluation, kept = CaptionEvaluation(folder=tmp_path / "out", samples=2), Kept()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[evaluation, kept],
        default_root_dir=tmp_path,
    )
    trainer.test(TrainingModule(model), datamodule=data, verbose=False)
    written = json.loads((tmp_path / "out" / "captions.json").read_text(encoding="utf-8"))
    said = [kept.texts[f"set/{number}"] for number in range(5)]
    expected = {
        "model": caption_report(said, [[one] for one in captions]),
        "most_frequent_caption": caption_report(["a dog"] * 5, [[one] for one in captions]),
    }
    assert evaluation.report == expected
    assert written["model"]["n"] == 5 and written["most_frequent_caption"]["exact"] == pytest.approx(0.4)
    assert [sample["id"] for sample in written["samples"]] == ["set/0", "set/2"]
    assert "most frequent caption" in capsys.readouterr().out


def test_a_record_without_a_caption_is_named() -> None:
    ids = torch.zeros((1, 1), dtype=torch.int64)
    batch = Batch(ids, ids.bool(), ids, details=[{"id": "set/3", "caption": 7}])
    trainer: Any = SimpleNamespace()
    with pytest.raises(ValueError, match=r"set/3: caption: found '7'; expected a caption"):
        CaptionEvaluation().on_test_batch_end(trainer, trainer, [Reply(["a dog"])], batch, 0)
    batch.details[0]["caption"] = "a cat"
    with pytest.raises(ValueError, match=r"set/3: found no 'kind' among id, caption; .*Fix: name another in 'by'"):
        CaptionEvaluation(by="kind").on_test_batch_end(trainer, trainer, [Reply(["a dog"])], batch, 0)
    with pytest.raises(ValueError, match="samples: found -1"):
        CaptionEvaluation(samples=-1)


def test_groups_have_figures_of_their_own(tmp_path: Path) -> None:
    training = captioned(tmp_path / "training", ["a dog", "a cat"])
    evaluation = CaptionEvaluation(folder=tmp_path, by="modality", training=training, twins=["image1"])
    said = {"image": [("a dog", "a dog"), ("a cow", "a red hen")], "video": [("a hat", "a hat"), ("a cat", "a dog")]}
    ids = torch.zeros((2, 1), dtype=torch.int64)
    trainer: Any = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path, fast_dev_run=True)
    evaluation.on_test_epoch_start(trainer, trainer)
    for modality, pairs in said.items():
        details = [{"id": f"{modality}{n}", "caption": one, "modality": modality} for n, (_, one) in enumerate(pairs)]
        batch = Batch(ids, ids.bool(), ids, details=details)
        evaluation.on_test_batch_end(trainer, trainer, [Reply([text]) for text, _ in pairs], batch, 0)
    evaluation.on_test_epoch_end(trainer, trainer)
    assert evaluation.report is not None
    for name, texts, references in (
        ("", ["a dog", "a cow", "a hat", "a cat"], ["a dog", "a red hen", "a hat", "a dog"]),
        (", image", ["a dog", "a cow"], ["a dog", "a red hen"]),
        (", video", ["a hat", "a cat"], ["a hat", "a dog"]),
        (", new", ["a hat"], ["a hat"]),
        (", video, new", ["a hat"], ["a hat"]),
    ):
        assert evaluation.report[f"model{name}"] == caption_report(texts, [[one] for one in references])
    assert evaluation.report["most_frequent_caption, video"]["exact"] == pytest.approx(0.5)
    assert len(evaluation.report) == 10 and "model, image, new" not in evaluation.report
