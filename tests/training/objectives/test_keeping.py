"""What tuning leaves of the LLM's language: predictions compared with the published LLM's, by plain re-computation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import supervised
import torch
from model.talks import mixed
from syncs import Syncs
from tiny_world import write_t5

from isthmus.backbones import EncoderDecoderBackbone, LoraSettings
from isthmus.batch_layout import layout_of, rows_in_words
from isthmus.data.conversations.schema import Conversation, Message, TextItem
from isthmus.data.module import ConversationDataModule
from isthmus.losses import kept_divergence
from isthmus.model import AnyToAny, Backbone
from isthmus.training import LossWeights, Stage, Supervised
from isthmus.training.checks import check_kept
from isthmus.training.objectives.base import Learner
from isthmus.training.objectives.supervised import kept_rows
from isthmus.training.trainable import set_trainable
from isthmus.types import IGNORED, Batch

WEIGHTS = LossWeights(text=0.0, keeping=2.0)
TRAINS = ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"]


def words(said: str, answer: str, source: str) -> Conversation:
    turns = (Message("user", (TextItem(said),)), Message("assistant", (TextItem(answer),)))
    return Conversation(turns, {"source": source})


def batch_of(model: AnyToAny, parts: int = 1) -> Batch:
    """Media of the source to keep, which don't count, then words of it and of another."""
    media = [replace(each, details={"source": "replay"}) for each in mixed()[:2]] if model.input_side else []
    own = [words("what is rain", "water that falls from the sky", "replay"), words("a cat", "no", "declines")]
    return model.collator(micro_batches=parts)([*media, *own, words("why", "so it is", "replay")])


@pytest.fixture(params=["llama", "t5"])
def tuned(build: Callable[..., AnyToAny], request: pytest.FixtureRequest, tmp_path: Path) -> AnyToAny:
    """A model whose adapters have an effect; with a T5 it is one of words alone."""
    lora = LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0)
    if request.param == "llama":
        model = build(lora=lora, max_tokens=1024)
    else:
        write_t5(tmp_path / "t5")
        model = AnyToAny(Backbone(EncoderDecoderBackbone(tmp_path / "t5", {}, lora), 1024))
        model.configure_model()
    set_trainable(model, TRAINS if model.input_side else ["lora"], "instruction_tuning")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.train()


def scored(model: AnyToAny, batch: Batch, row: int) -> torch.Tensor:
    """(p, base vocabulary) log-probabilities of a row's targets: losses of all tokens as its labels."""
    language_model = model.backbone.language_model
    places = [place for place, label in enumerate(batch.labels[row].tolist()) if label != IGNORED]
    tokens = torch.arange(language_model.vocabulary.base_size)
    ids, mask = (whole[[row]].expand(len(tokens), -1) for whole in (batch.ids, batch.mask))
    found = []
    for target, place in enumerate(places):
        labels = batch.labels[[row]].repeat(len(tokens), 1)
        labels[:, place] = tokens
        output = language_model(language_model.laid_out(Batch(ids, mask, labels)), {}, by_token=True)
        found.append(-output.token_losses.view(len(tokens), len(places))[:, target])
    return torch.stack(found)


def test_it_is_the_divergence_from_the_llm_without_its_adapters(tuned: AnyToAny) -> None:
    batch = batch_of(tuned)
    rows = kept_rows(batch, WEIGHTS)
    assert rows == [len(batch) - 3, len(batch) - 1], "words alone, of the source that is named"
    terms = supervised.terms(tuned, WEIGHTS, batch)
    assert terms.keeping is not None and terms.counts()[6] == terms.kept > 0
    torch.testing.assert_close(terms.total(WEIGHTS, terms.counts()), 2 * terms.keeping / terms.kept)
    short = rows[1]
    with torch.no_grad():
        now = scored(tuned, batch, short)
        with tuned.backbone.language_model.adapters_disabled():
            # The published LLM has no signal tokens: its probabilities are over its own vocabulary.
            before = scored(tuned, batch, short).log_softmax(-1)
    alone = supervised.terms(tuned, WEIGHTS, replace(rows_in_words(batch, [short]), details=[batch.details[short]]))
    expected = (before.exp() * (before - now)).sum()
    assert alone.keeping is not None and float(expected) > 1e-3
    torch.testing.assert_close(alone.keeping.detach(), expected, rtol=1e-4, atol=1e-5)


def test_it_draws_adapters_back_and_reaches_nothing_else(tuned: AnyToAny) -> None:
    batch = batch_of(tuned)
    trained = [own for own in tuned.parameters() if own.requires_grad]
    optimizer, found = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0), []
    for _ in range(8):
        outcome = Supervised().step(Learner(tuned, WEIGHTS), batch)
        optimizer.zero_grad()
        outcome.loss.backward()
        reached = {name for name, own in tuned.named_parameters() if own.grad is not None and own.grad.any()}
        assert reached and all("lora" in name or "starts" in name for name in reached), reached
        optimizer.step()
        found.append(float(outcome.shared["keeping"]))
    assert found[-1] < 0.7 * found[0]


def test_parts_learn_the_whole_batchs(tuned: AnyToAny) -> None:
    def learnt(parts: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        tuned.zero_grad()
        outcome = Supervised().step(Learner(tuned, WEIGHTS, parts), batch_of(tuned, parts))
        outcome.loss.backward()
        return outcome.shared["keeping"], {n: p.grad for n, p in tuned.named_parameters() if p.grad is not None}

    (whole, gradients), (divided, own) = learnt(1), learnt(3)
    torch.testing.assert_close(divided, whole)
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-4, atol=1e-6)


def test_nothing_waits_and_a_batch_with_nothing_to_keep_learns_the_rest(tuned: AnyToAny) -> None:
    learner, batch = Learner(tuned, LossWeights(keeping=1.0)), batch_of(tuned)
    Supervised().step(learner, batch)  # whatever is found out once
    with (syncs := Syncs())():
        Supervised().step(learner, batch)
    assert not syncs.found or tuned.input_side is None, "T5's own passes wait"
    others = tuned.collator()([words("a cat", "no", "declines")])
    outcome = Supervised().step(learner, others)
    torch.testing.assert_close(outcome.loss, supervised.loss(tuned, LossWeights(), others))
    assert float(outcome.shared["keeping"]) == 0
    # Where layers are sharded all processes take the same passes: one without anything to keep takes it too.
    tuned.backbone.language_model.uniform_passes = True
    torch.testing.assert_close(Supervised().step(learner, others).loss.detach(), outcome.loss.detach())


def test_rows_have_the_layout_that_they_have_by_themselves(tuned: AnyToAny) -> None:
    batch = batch_of(tuned)
    own = rows_in_words(batch, [len(batch) - 1, len(batch) - 2])
    expected, found = layout_of(replace(own, layout=None), tuned.backbone.language_model.vocabulary), own.layout
    for name, value in vars(expected).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(getattr(found, name), value)
        else:
            assert getattr(found, name) == value, name


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_give_the_divergence_of_all(chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(4, 9)
    now, before = (torch.randn(7, 4, generator=generator, requires_grad=True) for _ in range(2))
    found = kept_divergence(now, before, head, 6, chunk)
    wanted = head(before)[:, :6].softmax(-1)
    expected = (wanted * (wanted.log() - head(now).softmax(-1)[:, :6].log())).sum()
    torch.testing.assert_close(found, expected)
    found.backward()
    assert before.grad is None and now.grad is not None
    (plain,) = torch.autograd.grad((wanted.detach() * -head(now).log_softmax(-1)[:, :6]).sum(), now)
    torch.testing.assert_close(now.grad, plain)


def test_a_stage_without_such_a_source_is_refused() -> None:
    class Two:
        def __len__(self) -> int:
            return 2

    data: Any = ConversationDataModule({"chat": Two(), "own": Two()})  # type: ignore[dict-item]
    stage = Stage(["lora"], LossWeights(keeping=1.0), {"chat": 1.0}, steps=1)
    with pytest.raises(ValueError, match="kept_sources: found replay; expected one of the stage's sources: chat"):
        check_kept(data, stage, "tuning")
    check_kept(data, replace(stage, losses=LossWeights(keeping=1.0, kept_sources=("chat",))), "tuning")
    check_kept(data, replace(stage, losses=LossWeights()), "tuning")


def test_no_logits_are_computed_where_s_alone_is_wanted(
    build: Callable[..., AnyToAny], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(max_tokens=1024)
    set_trainable(model, ["output_projectors"], "decoder_alignment")
    both, alone = LossWeights(alignment=1.0), LossWeights(text=0.0, alignment=1.0)
    expected = supervised.terms(model, both, mixed())
    monkeypatch.setattr(type(model.backbone.language_model), "logits", None)
    found = supervised.terms(model, alone, mixed())
    assert found.alignment.keys() == expected.alignment.keys() and not found.called and found.correct is None
    for modality, distances in expected.alignment.items():
        torch.testing.assert_close(found.alignment[modality], distances)
    torch.testing.assert_close(
        found.total(alone, found.counts()), expected.total(both, expected.counts()) - (expected.text / expected.tokens)
    )
