"""A test run in plain conversation, beside the matrix."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from measuring import Brightness, Length
from tiny_world import tiny_model

from isthmus.backbones import CausalBackbone
from isthmus.backbones.adapters.lora import LoraSettings
from isthmus.data.conversations.sources import ConversationSource, JsonLines
from isthmus.data.module import ConversationDataModule
from isthmus.data.plain import PlainQuestions, passages, reference_sections
from isthmus.evaluation import MatrixEvaluation, TalkEvaluation
from isthmus.evaluation.talk.perplexity import text_losses
from isthmus.pocket.cells import MatrixCells
from isthmus.training import TrainingModule

JUDGES = {"text": Length(), "image": Brightness()}
NATURAL = (
    ("a picture of a seven please", {"kind": "make", "media": ["image"], "expect": [{"digit": 7}]}),
    ("paint a cat", {"kind": "decline", "media": []}),
    ("what is a drawing?", {"kind": "words", "media": []}),
)


@pytest.fixture(scope="module")
def experts(tiny_experts_paths: dict[str, Path]) -> dict[str, Path]:
    folder = tiny_experts_paths["llama"].parent
    return {name: folder / name for name in ("imagebind", "point_bert", "llama", "image", "video", "audio")}


@pytest.fixture(scope="module")
def natural(tmp_path_factory: pytest.TempPathFactory) -> JsonLines:
    path = tmp_path_factory.mktemp("natural") / "natural.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": asked}], "details": {"task": "natural", "id": str(row), **details}}
        for row, (asked, details) in enumerate(NATURAL)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return JsonLines(path)


def run(experts: dict[str, Path], test: dict[str, ConversationSource], *callbacks: pl.Callback) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[*callbacks]
    )
    data = ConversationDataModule({}, test=test, batch_size=4)
    trainer.test(TrainingModule(tiny_model(experts, outputs=("image",))), datamodule=data, verbose=False)


def test_one_run_measures_talk_and_matrix(
    experts: dict[str, Path], natural: JsonLines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = TalkEvaluation(JUDGES, tmp_path)
    matrix = MatrixEvaluation(JUDGES, {"digit": 10, "colour": 6, "motion": 4}, tmp_path, samples=0)
    cells = MatrixCells(per_cell=1, inputs=["text"], outputs=["text"], arithmetic=False)
    run(experts, {"natural": natural, "plain": PlainQuestions(5), "cells": cells}, talk, matrix)
    written = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert talk.report is not None and {name: written[name] for name in talk.report} == talk.report
    samples = written["samples"]
    assert [sample["asked"] for sample in samples if sample["task"] == "natural"] == [asked for asked, _ in NATURAL]
    assert written["natural"]["all"]["intent"]["n"] == 3 and written["plain"]["no_medium"]["n"] == 5
    plain = [sample for sample in samples if sample["task"] == "plain"]
    assert len(plain) == 5 and all(sample["replied"] and "<" not in sample["before"] for sample in plain)
    assert written["perplexity"]["our own prose"]["texts"] == len(passages()) >= 10
    assert matrix.report is not None and matrix.report["cells"]["text->text"]["n"] == 1
    told = capsys.readouterr().out
    assert "plain questions: answered without a medium" in told and "perplexity of our own prose" in told


@pytest.mark.filterwarnings("error:.*was called before the")
@pytest.mark.parametrize("mine", ["talk.json", "matrix.json"])
def test_without_prompts_of_its_own_an_evaluation_leaves_the_others_figures(
    mine: str, experts: dict[str, Path], natural: JsonLines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = MatrixCells(per_cell=1, inputs=["text"], outputs=["text"], arithmetic=False)
    talk = TalkEvaluation(JUDGES, tmp_path, perplexity=False)
    matrix = MatrixEvaluation(JUDGES, {"digit": 10, "colour": 6, "motion": 4}, tmp_path, samples=0)
    only: ConversationSource = natural if mine == "talk.json" else cells
    with caplog.at_level(logging.WARNING, "isthmus"):
        run(experts, {"only": only}, talk, matrix)
    assert [path.name for path in tmp_path.glob("*.json")] == [mine]
    missing, reason = {
        "talk.json": ("MatrixEvaluation", "no prompt of a matrix"),
        "matrix.json": ("TalkEvaluation", "no natural request and no plain question"),
    }[mine]
    (told,) = [message for message in caplog.messages if "measured nothing" in message]
    assert told.startswith(f"{missing} measured nothing: found {reason}")
    assert (talk.report is None) == (missing == "TalkEvaluation") == (matrix.report is not None)


def test_perplexity_before_is_the_librarys_and_after_has_the_adapters(repository: Path) -> None:
    made = CausalBackbone(repository / "checkpoints" / "pocket" / "llama", lora=LoraSettings(r=2, lora_alpha=2))
    made.materialize()
    texts = ["a red seven moving left", passages()[0]]
    untouched = text_losses(made, texts)
    for loss in untouched:
        assert loss.after == pytest.approx(loss.before, rel=1e-4), "nothing was tuned, and there are no new tokens"
    with torch.no_grad(), made.adapters_disabled():
        ids = made.tokenizer(texts[0], add_special_tokens=False, return_tensors="pt")["input_ids"]
        assert untouched[0].before == pytest.approx(
            float(made.llm(ids, labels=ids).loss) * (ids.shape[1] - 1), rel=1e-4
        )
    for parameter in made.parts()["lora"]:
        torch.nn.init.normal_(parameter)
    tuned = text_losses(made, texts)
    assert [loss.before for loss in tuned] == [loss.before for loss in untouched]
    assert all(abs(loss.after - loss.before) > 0.01 * loss.before for loss in tuned)
    assert len(reference_sections()) >= 15 and min(map(len, reference_sections())) > 100
