"""Losses against torch's own, against their equations, and against themselves in pieces."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from isthmus.losses import (
    alignment_loss,
    diffusion_preference_loss,
    group_advantages,
    policy_loss,
    preference_loss,
    text_loss,
    token_losses,
)


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


@pytest.mark.parametrize("chunk", [2, 64])
def test_token_losses_are_the_terms_of_the_text_loss(chunk: int) -> None:
    hidden, weight = torch.randn(7, 5, requires_grad=True), torch.randn(11, 5)
    labels = torch.randint(11, (7,))
    losses, correct = token_losses(hidden, lambda states: states @ weight.T, labels, chunk)
    torch.testing.assert_close(losses, F.cross_entropy(hidden @ weight.T, labels, reduction="none"))
    assert torch.equal(correct, (hidden @ weight.T).argmax(-1) == labels)
    losses.square().sum().backward()
    assert hidden.grad is not None and hidden.grad.any()


def test_preference_losses_follow_their_equations() -> None:
    ratios, tokens = (torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.5])), (torch.tensor([2, 4]), torch.tensor([1, 5]))
    loss, margin = preference_loss(ratios, tokens, 0.2)
    torch.testing.assert_close(margin, torch.tensor([0.1, -0.5]))
    torch.testing.assert_close(loss, torch.log1p(torch.exp(-margin)))
    by_token = torch.tensor([0.5 - 0.5, -0.5 - 0.1])
    loss, _ = preference_loss(ratios, tokens, 0.2, "sigmoid_norm")
    torch.testing.assert_close(loss, torch.log1p(torch.exp(-0.2 * by_token)))
    loss, _ = preference_loss(ratios, tokens, 0.2, "ipo")
    torch.testing.assert_close(loss, (by_token - 2.5) ** 2)
    with pytest.raises(ValueError, match="unknown form 'hinge'"):
        preference_loss(ratios, tokens, 0.2, "hinge")  # type: ignore[arg-type]


def test_diffusion_preference_favours_the_lower_error_of_the_chosen_medium() -> None:
    better, worse = torch.tensor([-0.1], requires_grad=True), torch.tensor([0.1], requires_grad=True)
    loss, margin = diffusion_preference_loss(better, worse, 5.0)
    torch.testing.assert_close(loss, torch.log1p(torch.exp(torch.tensor([-1.0]))))
    assert margin == 1
    loss.backward()
    assert better.grad is not None and worse.grad is not None and better.grad > 0 > worse.grad


def test_group_advantages_have_no_mean_and_unit_deviation() -> None:
    advantages = group_advantages(torch.tensor([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]]))
    torch.testing.assert_close(advantages.mean(1), torch.zeros(2))
    torch.testing.assert_close(advantages[0].std(), torch.tensor(1.0), atol=1e-3, rtol=0)
    assert not advantages[1].any()


def test_the_policy_loss_is_clipped_and_adds_the_divergence() -> None:
    policy = torch.tensor([[-1.0, -1.0, 7.0], [-1.0, -1.0, -1.0]], requires_grad=True)
    old = torch.tensor([[-1.5, -1.0, 0.0], [-1.0, -0.5, -1.0]])
    reference = torch.tensor([[-1.0, -2.0, 0.0], [-1.0, -1.0, -1.5]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    advantages = torch.tensor([2.0, -1.0])
    losses, divergences = policy_loss(policy, old, reference, mask, advantages, clip=0.2, kl=0.1)
    apart = torch.tensor([[0.0, -1.0], [0.0, -0.5]])
    divergence = apart.exp() - apart - 1
    # e^0.5 counts as 1.2 where it would gain, e^-0.5 as 0.8 where it would lose less.
    first = -(2 * 1.2 + 2 * 1.0) / 2 + 0.1 * divergence[0].sum() / 2
    second = (1.0 + 0.8 + 1.0) / 3 + 0.1 * divergence[1].sum() / 3
    torch.testing.assert_close(losses, torch.stack([first, second]))
    torch.testing.assert_close(divergences, torch.stack([divergence[0].sum() / 2, divergence[1].sum() / 3]))
    losses.sum().backward()
    assert policy.grad is not None and policy.grad[0, 2] == 0
    assert policy.grad[1, 1] == 0  # clipped, and at the reference
