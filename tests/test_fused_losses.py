"""Liger's cross-entropy against torch's own: losses, gradients and likeliest tokens, in pieces and through an LLM.

Without a GPU Triton interprets the kernels, on CPU tensors.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from isthmus.backbones import CausalBackbone
from isthmus.backbones.pretrained import cross_entropy_by
from isthmus.fused_losses import check_liger, liger_cross_entropy
from isthmus.losses import cross_entropy, text_loss, token_losses
from isthmus.types import Batch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the library's kernels are first imported
HAS_LIGER = all(importlib.util.find_spec(name) is not None for name in ("liger_kernel", "triton"))
liger = [
    pytest.mark.liger,
    pytest.mark.skipif(not HAS_LIGER, reason="`make test-timm` runs this in .venv-timm"),
]
POCKET = Path(__file__).parents[1] / "checkpoints/pocket/llama"


def marked(test: Callable[..., Any]) -> Callable[..., Any]:
    for mark in liger:
        test = mark(test)
    return test


def normal(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(sum(size))).to(DEVICE)


def heads(width: int, words: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """As LLMs have them: plain, scaled, capped (whose last step keeps its result for its gradient), of two parts."""
    weight = normal(words, width)
    return {
        "plain": lambda states: states @ weight.T,
        "scaled": lambda states: states @ weight.T * 0.25 / 1.5,
        "capped": lambda states: torch.tanh(states @ weight.T / 3.0) * 3.0,
        "joined": lambda states: torch.cat([states @ weight[:-4].T, states @ weight[-4:].T], -1),
    }


@marked
@pytest.mark.parametrize("head", ["plain", "scaled", "capped", "joined"])
@pytest.mark.parametrize("measured", [text_loss, token_losses])
@pytest.mark.parametrize("chunk", [5, 64])
def test_it_is_torchs_own(head: str, measured: Any, chunk: int) -> None:
    states, labels = normal(13, 8), torch.arange(13, device=DEVICE) * 7 % 1243
    upstream = normal(13) if measured is token_losses else torch.tensor(0.3, device=DEVICE)
    found = []
    for measure in (liger_cross_entropy, cross_entropy):
        given = states.clone().requires_grad_(True)
        losses, correct = measured(given, heads(8, 1243)[head], labels, chunk=chunk, measure=measure)
        (gradient,) = torch.autograd.grad(losses, given, upstream)
        found.append((losses.detach(), gradient, correct))
    (losses, gradient, correct), (plain, plain_gradient, plain_correct) = found
    torch.testing.assert_close(losses, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, plain_gradient, rtol=1e-4, atol=1e-5)
    assert torch.equal(correct, plain_correct)


@marked
def test_without_gradients_and_without_targets() -> None:
    logits, labels = normal(6, 50), torch.arange(6, device=DEVICE)
    kept = logits.clone()
    losses, correct = liger_cross_entropy(logits, labels, "none")
    expected, likeliest = cross_entropy(kept, labels, "none")
    torch.testing.assert_close(losses, expected)
    assert torch.equal(correct, likeliest) and torch.equal(logits, kept), "nothing learns: nothing is overwritten"
    loss, correct = liger_cross_entropy(normal(0, 50).requires_grad_(True), labels[:0], "sum")
    loss.backward()
    assert float(loss.detach()) == 0 and correct.shape == (0,)


@marked
def test_a_second_backward_pass_is_refused() -> None:
    logits = normal(4, 9).requires_grad_(True)
    loss, _ = liger_cross_entropy(logits * 1.0, torch.arange(4, device=DEVICE), "sum")
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@marked
def test_an_llm_learns_the_same() -> None:
    found = []
    for name in ("liger", "torch"):
        backbone = CausalBackbone(POCKET, cross_entropy=name)  # type: ignore[arg-type]
        torch.manual_seed(0)
        backbone.materialize()
        backbone.to(DEVICE)
        ids = torch.tensor([[5, 9, 11, 4, 7, 8], [3, 8, 6, 2, 0, 0]], device=DEVICE)
        mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], device=DEVICE).bool()
        ids[0, 1] = backbone.vocabulary.tags(next(iter(backbone.vocabulary.signal_counts)))[0]  # a row that learns
        labels = torch.where(mask, ids, -100)
        labels[:, 0] = labels[0, 1] = -100
        batch = Batch(ids, mask, labels)
        output = backbone(batch, {}, by_token=True)
        wanted = [own for own in backbone.rows.parameters() if own.requires_grad]
        gradients = torch.autograd.grad(output.text_loss, wanted, allow_unused=True)
        found.append((output.token_losses.detach(), [own for own in gradients if own is not None]))
    (losses, gradients), (plain, plain_gradients) = found
    torch.testing.assert_close(losses, plain, rtol=1e-5, atol=1e-5)
    assert len(gradients) == len(plain_gradients) > 0
    for gradient, expected in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cross_entropy: found 'ligre'; expected torch or liger"):
        cross_entropy_by("ligre")
    assert cross_entropy_by("torch") is cross_entropy
    find = importlib.util.find_spec
    monkeypatch.setattr("isthmus.fused_losses.find_spec", lambda name: None if name == "triton" else find("torch"))
    with pytest.raises(ValueError, match=r"found 'liger', but no triton; .*pip install 'isthmus\[liger\]'"):
        check_liger()
    monkeypatch.setattr("isthmus.fused_losses.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="but no liger_kernel and no triton"):
        CausalBackbone(POCKET, cross_entropy="liger")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match=r"found 'liger' on a CPU; expected a GPU.*Mend: take 'torch'"):
        liger_cross_entropy(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64), "sum")
