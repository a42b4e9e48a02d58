"""The embedded encoder-decoder: its pairs, its loss, and that the backbone takes what its training writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_world import tiny_clone
from torch.nn import functional

from isthmus.backbones import EncoderDecoderBackbone
from isthmus.backbones.base import Sampling
from isthmus.cli.training import Command
from isthmus.data.conversations.planning import Planner
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.pocket.experts.language import t5
from isthmus.pocket.experts.language.llama import build_tokenizer, encode
from isthmus.pocket.language import REQUESTS, SKILLS
from isthmus.types import IGNORED, Batch


def test_every_answer_is_paired_with_what_precedes_it() -> None:
    tokenizer = build_tokenizer()
    chat = [
        {"role": role, "content": content}
        for role, content in [("user", "draw a red seven"), ("assistant", "drawn"), ("user", "and"), ("assistant", "")]
    ]
    ((first, second),) = t5.pairs(encode(tokenizer, [chat]))
    assert tokenizer.decode(first[0]) == "<s>USER: draw a red sevenASSISTANT:"
    assert tokenizer.decode(first[1]) == "drawn</s>"
    assert tokenizer.decode(second[0]).endswith("drawn</s>USER: andASSISTANT:")
    assert second[1] == [tokenizer.eos_token_id]


def test_the_loss_is_a_function_of_the_step_and_of_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t5, "NOISE", 0.0)
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    llm = t5.build_llm(tokenizer)
    loss = t5.AnswerLoss(llm, tokenizer, 0)
    value, again = loss(5).detach(), t5.AnswerLoss(llm, tokenizer, 0)(5).detach()
    torch.testing.assert_close(value, again)
    total, count = torch.zeros(()), 0
    with torch.no_grad():
        for read, written in loss.batch(5):
            labels = torch.tensor([written])
            logits = llm(input_ids=torch.tensor([read]), labels=labels).logits
            total += functional.cross_entropy(logits[0], labels[0], reduction="sum")
            count += len(written)
    torch.testing.assert_close(value, total / count, rtol=1e-4, atol=1e-5)


def test_training_writes_an_llm_that_the_backbone_reads(tmp_path: Path) -> None:
    figures = t5.train(tmp_path / "t5", effort=0.001)
    assert set(figures) == {"text_skill", "parameters", *SKILLS, *REQUESTS}
    assert 1e6 < figures["parameters"] < 1.3e6
    assert (tmp_path / "t5" / "model.safetensors").stat().st_size < 6_000_000
    backbone = EncoderDecoderBackbone(tmp_path / "t5")
    backbone.materialize()
    planner = Planner(backbone.tokenizer, backbone.vocabulary)
    turns = Conversation([Message("user", [TextItem("a red seven")]), Message("assistant", [TextItem("seven")])])
    (prompt,) = planner.plan(turns.prompt(), "none", generation_prompt=True)
    (whole,) = planner.plan(turns)
    ids = torch.tensor([whole.ids])
    labels = ids.where(torch.tensor([whole.targets]), IGNORED)
    length = len(prompt.ids)
    assert (labels[0, :length] == IGNORED).all() and labels[0, length:].tolist() == list(whole.ids[length:])
    output = backbone(Batch(ids, torch.ones_like(ids, dtype=torch.bool), labels), {})
    assert output.correct is not None and len(output.correct) == len(whole.ids) - length
    asked = torch.tensor([prompt.ids])
    batch = Batch(asked, torch.ones_like(asked, dtype=torch.bool), torch.full_like(asked, IGNORED))
    (answer,) = backbone.generate(batch, {}, Sampling(6), allowed=[])
    chat = [{"role": "user", "content": "a red seven"}]
    (plain,) = t5.reply(backbone.llm, backbone.tokenizer, [chat])
    assert plain.startswith("".join(str(piece) for piece in answer.pieces))


def test_its_config_puts_it_in_the_llamas_place_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_clone(tmp_path))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(Command, "fit", lambda self, **_: None)

    def composed(*more: str) -> Any:
        return Command(["fit", "-c", "curriculum.yaml", *more, "--trainer.accelerator=cpu"])

    cli, plain = composed("-c", "experts/pocket_t5.yaml"), composed()
    assert isinstance(cli.model.backbone.language_model, EncoderDecoderBackbone)
    own, other = cli.config["fit"], plain.config["fit"]
    for config in (own, other):
        del config.training.folder
        config.model.backbone.init_args.pop("language_model")
    assert own.model == other.model and own.data == other.data and own.training == other.training
    settings = plain.model.backbone.language_model.lora
    assert cli.model.backbone.language_model.lora == settings
    for model in (cli.model, plain.model):
        model.configure_model()
    assert cli.model.parts().keys() == plain.model.parts().keys()
