"""DPO over text and media: against trl, against a plain second computation, and its faults."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import supervised
import torch
import torch.nn.functional as F
from pairs import batch_of, media_pairs, ready, text_pairs
from torch import Tensor

from isthmus.backbones.adapters.lora import inject_lora, lora_parameters
from isthmus.losses import PreferenceForm
from isthmus.model import AnyToAny
from isthmus.training import LossWeights, Preference, TrainingModule
from isthmus.training.objectives.base import Outcome
from isthmus.training.objectives.preference import content_pairs
from isthmus.types import IGNORED, Batch


def step(module: TrainingModule, batch: Batch) -> Outcome:
    """A step as one process takes it."""
    return module.objective.step(module.learner(), batch)


def gradients(model: AnyToAny) -> dict[str, Tensor]:
    return {name: own.grad.clone() for name, own in model.named_owned() if own.grad is not None}


def plain_llm(model: AnyToAny, embedding: Tensor, head: Tensor) -> Any:
    """The model's LLM as transformers' own class, its vocabulary the columns that the model predicts."""
    from transformers import AutoModelForCausalLM

    backbone: Any = model.backbone.language_model
    llm = AutoModelForCausalLM.from_pretrained(backbone.checkpoint, local_files_only=True)
    llm.resize_token_embeddings(len(head), mean_resizing=False)
    with torch.no_grad():
        llm.get_input_embeddings().weight.copy_(embedding)
        llm.get_output_embeddings().weight.copy_(head)
    llm.requires_grad_(False)
    inject_lora(llm, backbone.lora)
    return llm


@pytest.mark.parametrize("form", ["sigmoid", "sigmoid_norm", "ipo"])
def test_loss_and_gradients_equal_trl(experts: dict[str, Path], tmp_path: Path, form: PreferenceForm) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    module = ready(experts, Preference(form, beta=0.3), ["lora", "signal_rows"], inputs=(), outputs=())
    model = module.model
    batch = batch_of(module, text_pairs())
    outcome = step(module, batch)
    outcome.loss.backward()

    backbone: Any = model.backbone.language_model
    rows, starts = backbone.llm.get_input_embeddings().weight, backbone.rows.run_starts
    unused = torch.zeros_like(starts)  # rows of tokens that no text has

    def llm(own: list[Tensor], head: Tensor) -> Any:
        made = plain_llm(model, torch.cat([rows, unused]), torch.cat([backbone.llm.lm_head.weight, head]).detach())
        with torch.no_grad():
            for parameter, value in zip(lora_parameters(made), own, strict=True):
                parameter.copy_(value)
        return made

    assert module.reference is not None
    kept = module.reference.tensors
    policy = llm(model.backbone.language_model.parts()["lora"], starts)
    reference = llm([kept[name] for name in kept if name.startswith("lora:")], kept["signal_rows:1"])
    settings = DPOConfig(str(tmp_path), loss_type=[form], beta=0.3, use_cpu=True, report_to=[], bf16=False)
    words = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    tokenizer = backbone.tokenizer
    trainer = DPOTrainer(policy, reference, settings, train_dataset=words, processing_class=tokenizer)
    given = {
        "input_ids": batch.ids,
        "attention_mask": batch.mask.long(),
        "completion_mask": (batch.labels != IGNORED).long(),
    }
    expected = trainer._compute_loss(trainer.model, given, False)
    expected.backward()

    torch.testing.assert_close(outcome.loss, expected, atol=1e-5, rtol=1e-5)
    found = [own.grad for own in model.backbone.language_model.parts()["lora"]]
    for own, theirs in zip(found, lora_parameters(policy), strict=True):
        assert own is not None and theirs.grad is not None and own.abs().max() > 1e-6
        torch.testing.assert_close(own, theirs.grad, atol=1e-5, rtol=1e-4)


def test_the_reference_is_the_model_as_it_was(experts: dict[str, Path]) -> None:
    module = ready(experts, Preference())
    model = module.model
    batch = batch_of(module, media_pairs())
    assert module.reference is not None
    modes = [module.training for module in model.modules()]
    present = {name: own.clone() for name, own in model.named_owned()}
    with module.reference(model):
        before = model.score(batch).text
        assert not before.requires_grad and not model.backbone.training
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(own, present[name]) for name, own in model.named_owned())
    assert not torch.allclose(model.score(batch).text, before)
    with torch.no_grad():
        for name, own in model.named_owned():
            own.copy_(module.reference.tensors.get(name, own))
    assert torch.equal(model.score(batch).text, before)
    assert step(module, batch).loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_scores_are_sums_over_full_logits(experts: dict[str, Path]) -> None:
    module = ready(experts, Preference())
    model = module.model
    batch = batch_of(module, media_pairs())
    assert model.input_side is not None
    scores = model.score(batch)
    backbone: Any = model.backbone.language_model
    embeddings = backbone.embed(batch.ids)
    positions = torch.arange(batch.ids.shape[1]).expand_as(batch.ids)
    logits = backbone.logits(backbone._transform(embeddings, batch.mask, positions, None)).log_softmax(-1)
    for row in range(len(batch)):
        places = (batch.labels[row] != IGNORED).nonzero()[:, 0]
        columns = backbone.rows.columns(batch.labels[row, places])
        expected = logits[row, places - 1].gather(-1, columns[:, None]).sum()
        torch.testing.assert_close(scores.text[row], expected, atol=1e-4, rtol=1e-5)
        assert scores.counts[row] == len(places)


def test_the_media_term_equals_a_plain_computation_and_reaches_the_bridges(experts: dict[str, Path]) -> None:
    module = ready(experts, Preference(text=0.0, media=1.0, media_beta=7.0))
    model = module.model
    batch = batch_of(module, media_pairs())
    outcome = step(module, batch)
    assert module.reference is not None
    with module.reference(model):
        before = model.score(batch, True)
    now = model.score(batch, True)
    losses = []
    for modality, runs in batch.signals.items():
        assert runs.rows.tolist() == [runs.rows[0], runs.rows[0] + 3]  # one run a side
        assert runs.seeds[0] == runs.seeds[1]  # the same noise
        chosen, rejected = now.denoising[modality] - before.denoising[modality]
        losses.append(-F.logsigmoid(-7.0 * (chosen - rejected)))
    torch.testing.assert_close(outcome.loss, torch.stack(losses).mean())
    outcome.loss.backward()
    moved = {name.split(":")[0] for name, own in gradients(model).items() if own.abs().max() > 0}
    assert {"lora", "signal_rows", "output_projectors.image", "output_projectors.audio"} <= moved


def test_the_alignment_term_is_that_of_the_chosen_runs_and_reaches_the_bridges(experts: dict[str, Path]) -> None:
    plain = step(ready(experts, Preference()), batch_of(ready(experts, Preference()), media_pairs()))
    module = ready(experts, Preference(alignment=2.0))
    model = module.model
    batch = batch_of(module, media_pairs())
    outcome = step(module, batch)
    distances = supervised.terms(model, LossWeights(alignment=1.0), batch).alignment
    chosen = torch.cat([distances[m][runs.rows < len(batch) // 2] for m, runs in batch.signals.items()])
    assert 0 < len(chosen) < sum(map(len, distances.values()))
    torch.testing.assert_close(outcome.loss, plain.loss + 2.0 * chosen.mean())
    assert outcome.figures()["alignment_image"] > 0
    outcome.loss.backward()
    moved = {name.split(":")[0] for name, own in gradients(model).items() if own.abs().max() > 0}
    assert {"lora", "signal_rows", "output_projectors.image", "output_projectors.audio"} <= moved


def test_contents_without_a_counterpart_count_for_nothing(experts: dict[str, Path]) -> None:
    from dataclasses import replace

    from pairs import without_media

    module = ready(experts, Preference(media=1.0))
    first, *others = media_pairs()
    whole, alone = others, [replace(first, rejected=without_media(first.rejected)), *others]
    media = [step(module, batch_of(module, pairs)).figures()["media_loss"] for pairs in (whole, alone)]
    torch.testing.assert_close(media[0], media[1])
    layout = batch_of(module, [alone[0]]).layout
    assert layout is not None and content_pairs(layout.runs["image"], 1) == ([], [])


def test_training_prefers_the_chosen_answers(experts: dict[str, Path]) -> None:
    module = ready(experts, Preference(media=1.0, media_beta=5.0, chosen=0.1))
    model = module.model
    batch = batch_of(module, media_pairs())
    optimizer = torch.optim.AdamW([own for own in model.parameters() if own.requires_grad], lr=1e-2)
    outcomes = []
    for _ in range(12):
        outcome = step(module, batch)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        outcomes.append(outcome)
    assert outcomes[-1].loss < outcomes[0].loss
    assert outcomes[-1].figures()["reward_margin"] > outcomes[0].figures()["reward_margin"] + 0.5
    assert outcomes[-1].figures()["media_accuracy"] == 1
    assert outcomes[-1].figures()["chosen_loss"] < outcomes[0].figures()["chosen_loss"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "hinge"}, r"preference.loss_type: found 'hinge'"),
        ({"beta": 0.0}, r"preference.beta: found 0.0"),
        ({"media_beta": -1.0}, "media_beta"),
        ({"text": 0.0}, "text or media above"),
        ({"chosen": -1.0}, "none below 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preference(**settings)


def test_a_reference_of_another_stage_is_refused(experts: dict[str, Path]) -> None:
    module = ready(experts, Preference())
    assert module.reference is not None
    module.reference.tensors.popitem()
    with pytest.raises(ValueError, match="with the stage that the run was started with"):
        step(module, batch_of(module, media_pairs()))
