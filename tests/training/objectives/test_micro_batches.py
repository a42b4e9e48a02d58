"""A batch in parts: loss, gradients and figures of the batch in one piece, from the memory of one part."""

from __future__ import annotations

from typing import Any

import pytest
import supervised
import torch
from model.talks import mixed, talk
from torch import Tensor

from isthmus.backbones import LoraSettings
from isthmus.model import AnyToAny
from isthmus.training import LossWeights
from isthmus.training.objectives.base import Learner
from isthmus.training.objectives.micro_batches import check_micro_batches
from isthmus.training.objectives.supervised import counts_of, part_losses
from isthmus.training.objectives.terms import Terms, together
from isthmus.training.trainable import set_trainable
from isthmus.types import Batch

EVERYTHING = LossWeights(0.5, 2.0, 0.25, modalities={"image": 3.0, "audio": 0.5, "video": 0.0})
ALIGNMENT = LossWeights(alignment=1.0, alignment_form="norm")
TRAINS = ["input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"]


@pytest.fixture
def tuned(build: Any) -> AnyToAny:
    """A model whose bridges, rows and adapters train."""
    model: AnyToAny = build(lora=LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0), max_tokens=1024)
    set_trainable(model, TRAINS, "instruction_tuning")
    return model.train()


def batch_of(model: AnyToAny, weights: LossWeights, parts: int) -> Batch:
    talks = [*mixed(), talk(["draw"], [("image", 6)], seed=7)]
    return model.collator(weights.denoising > 0, micro_batches=parts)(talks)


def learn(model: AnyToAny, weights: LossWeights, batch: Batch) -> tuple[Tensor, Terms]:
    """The loss of a batch's parts, learnt from one after another, and their terms together."""
    found: list[Terms] = []
    learner = Learner(model, weights, len(batch.pieces))
    loss, _ = learner.in_turn(part_losses(learner, batch.pieces, found)[0])
    return loss, together(found)


def backward(model: AnyToAny, loss: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: own.grad for name, own in model.named_parameters() if own.requires_grad}


@pytest.mark.parametrize("weights", [LossWeights(), EVERYTHING, ALIGNMENT], ids=["text", "everything", "alignment"])
@pytest.mark.parametrize("parts", [2, 3, 100])
def test_loss_gradients_and_terms_are_the_whole_batchs(tuned: AnyToAny, weights: LossWeights, parts: int) -> None:
    whole = batch_of(tuned, weights, 1)
    assert not whole.rest
    terms = supervised.terms(tuned, weights, whole)
    plain = terms.total(weights, terms.counts())
    expected = backward(tuned, 0.5 * plain)

    divided = batch_of(tuned, weights, parts)
    assert len(divided.pieces) == min(parts, 5) and sum(map(len, divided.pieces)) == 5
    counts = counts_of(tuned, weights, divided.pieces, [None] * len(divided.pieces))
    assert counts == terms.counts().tolist()
    loss, found = learn(tuned, weights, divided)
    gradients = backward(tuned, 0.5 * loss)  # as a Trainer that accumulates batches scales it

    torch.testing.assert_close(loss.detach(), plain.detach(), rtol=1e-5, atol=1e-5)
    for name, gradient in expected.items():
        own = gradients[name]
        assert (own is None) == (gradient is None), name
        if own is not None and gradient is not None:
            torch.testing.assert_close(own, gradient, rtol=1e-4, atol=1e-5 * max(1.0, float(gradient.abs().max())))
    torch.testing.assert_close(found.text, terms.text.detach(), rtol=1e-5, atol=1e-4)
    assert found.correct is not None and terms.correct is not None
    assert int(found.correct) == int(terms.correct) and found.tokens == terms.tokens
    for name in ("alignment", "denoising", "cosine", "called"):
        ours, theirs = getattr(found, name), getattr(terms, name)
        assert ours.keys() == theirs.keys(), name
        for modality, values in theirs.items():
            torch.testing.assert_close(
                ours[modality].sort().values, values.detach().sort().values, rtol=1e-4, atol=1e-5
            )


def test_one_part_at_a_time_is_held(tuned: AnyToAny) -> None:
    """What autograd keeps is let go of before the next part begins."""
    held: list[int] = []
    kept = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal kept
            self.tensor, self.size = tensor, tensor.numel()
            kept += self.size
            held.append(kept)

        def __del__(self) -> None:
            nonlocal kept
            kept -= self.size

    def most(parts: int) -> int:
        batch = batch_of(tuned, LossWeights(), parts)
        held.clear()
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda own: own.tensor):
            loss, _ = learn(tuned, LossWeights(), batch)
            loss.backward()
        del loss
        return max(held)

    whole = most(1)
    assert most(3) < 0.6 * whole
    assert kept == 0


def test_under_autocast_gradients_keep_their_type(tuned: AnyToAny) -> None:
    weights = LossWeights(alignment=1.0)
    batch = batch_of(tuned, weights, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = learn(tuned, weights, batch)
        plain = supervised.loss(tuned, weights, batch_of(tuned, weights, 1))
    gradients = backward(tuned, loss)
    assert {own.dtype for own in gradients.values() if own is not None} == {torch.float32}
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=0.02)
    expected = backward(tuned, plain)
    norms = [
        float(torch.stack([g.norm() for g in own.values() if g is not None]).norm()) for own in (gradients, expected)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


@pytest.mark.parametrize("name", ["teaching", "spelling"])
def test_losses_that_compare_a_whole_batch_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"micro_batches: found a weight on losses.{name}.*Fix: set micro_batches to 1"
    ):
        check_micro_batches(LossWeights(**{name: 1.0}))
