"""Losses against torch's own, against their equations, and against themselves in pieces."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from isthmus.losses import alignment_loss, text_loss


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_text_loss_equals_cross_entropy_however_it_is_chunked(chunk: int) -> None:
    hidden = torch.randn(7, 5, requires_grad=True)
    weight = torch.randn(11, 5, requires_grad=True)
    labels = torch.randint(11, (7,))
    expected = F.cross_entropy(hidden @ weight.T, labels, reduction="sum")
    expected_gradients = torch.autograd.grad(expected, (hidden, weight))

    loss, correct = text_loss(hidden, lambda states: states @ weight.T, labels, chunk=chunk)

    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (hidden, weight)), expected_gradients)
    assert torch.equal(correct, (hidden @ weight.T).argmax(-1) == labels)
    assert not correct.requires_grad


def test_text_loss_never_holds_more_than_a_chunk_of_logits() -> None:
    hidden, weight = torch.randn(40, 8, requires_grad=True), torch.randn(13, 8)
    seen: list[int] = []
    kept: list[int] = []

    def head(states: torch.Tensor) -> torch.Tensor:
        seen.append(len(states))
        return states @ weight.T

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = text_loss(hidden, head, torch.randint(13, (40,)), chunk=4)
    assert max(seen) == 4
    assert max(kept, default=0) < 4 * 13  # what waits for the backward pass holds no logits
    loss.backward()
    assert hidden.grad is not None


def test_text_loss_without_targets_is_a_zero_that_backpropagates() -> None:
    hidden = torch.randn(0, 5, requires_grad=True)
    loss, correct = text_loss(hidden, lambda states: states @ torch.randn(5, 11), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and len(correct) == 0


def test_text_loss_is_float32_for_a_half_precision_head() -> None:
    hidden, weight = torch.randn(6, 8, dtype=torch.bfloat16), torch.randn(9, 8, dtype=torch.bfloat16)
    loss, _ = text_loss(hidden, lambda states: states @ weight.T, torch.randint(9, (6,)))
    assert loss.dtype == torch.float32


@given(samples=st.integers(1, 3), tokens=st.integers(1, 4), width=st.integers(1, 5), seed=st.integers(0, 99))
def test_alignment_follows_its_equations(samples: int, tokens: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    projected, target = torch.randn(2, samples, tokens, width, generator=generator)
    difference = projected - target
    torch.testing.assert_close(alignment_loss(projected, target), (difference**2).sum((1, 2)) / (tokens * width))
    norms = (difference**2).sum(-1).sqrt().mean(-1)
    torch.testing.assert_close(alignment_loss(projected, target, form="norm"), norms)


@pytest.mark.parametrize("form", ["mse", "norm"])
def test_masked_alignment_equals_that_of_the_valid_tokens_alone(form: str) -> None:
    projected, target = torch.randn(2, 2, 5, 3)
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])
    loss = alignment_loss(projected, target, mask, form)
    torch.testing.assert_close(loss[:1], alignment_loss(projected[:1, :2], target[:1, :2], form=form))
    torch.testing.assert_close(loss[1:], alignment_loss(projected[1:], target[1:], form=form))
    assert (alignment_loss(projected, target, torch.zeros(2, 5, dtype=torch.bool), form) == 0).all()


def test_alignment_trains_the_projection_and_never_the_target() -> None:
    projected, target = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    alignment_loss(projected, target).sum().backward()
    assert projected.grad is not None and target.grad is None


def test_alignment_refuses_other_shapes_and_forms() -> None:
    with pytest.raises(ValueError, match=r"\(1, 77, 768\).*\(1, 77, 1024\).*condition_shape"):
        alignment_loss(torch.zeros(1, 77, 768), torch.zeros(1, 77, 1024))
    with pytest.raises(ValueError, match="unknown form 'cosine'; known: mse, norm"):
        alignment_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), form="cosine")  # type: ignore[arg-type]
