"""Liger's cross-entropy against torch's: losses, gradients, the pieces of a long text, whole backbones, the refusals.

Marked `liger`: skipped where that extra isn't installed (`make test-timm` installs it beside, in .venv-timm). Triton
interprets its kernel; with TRITON_INTERPRET=0 it runs on a GPU as it is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from isthmus.backbones import CausalBackbone
from isthmus.backbones.cross_entropies import chosen_cross_entropy, liger_cross_entropy
from isthmus.backbones.pretrained import PretrainedLanguageModel
from isthmus.losses import text_loss, token_losses, torch_cross_entropy

HAS_LIGER = all(importlib.util.find_spec(name) is not None for name in ("liger_kernel", "triton"))
DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
needs_liger = [
    pytest.mark.liger,
    pytest.mark.skipif(
        not HAS_LIGER, reason="liger-kernel isn't installed here: `make test-timm` runs this in .venv-timm"
    ),
]
POCKET = Path(__file__).resolve().parents[2] / "checkpoints/pocket/llama"
VOCABULARY = 37
Build = Callable[..., PretrainedLanguageModel]
Head = Callable[[Tensor], Tensor]


def liger_test(function: Any) -> Any:
    for mark in needs_liger:
        function = mark(function)
    return function


def drawn(count: int = 9, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """States (count, 5) and a head's weight (VOCABULARY, 5) that learn, and labels."""
    generator = torch.Generator().manual_seed(4)
    states = torch.randn(count, 5, generator=generator).to(DEVICE, dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, 5, generator=generator).to(DEVICE, dtype).requires_grad_()
    return states, weight, torch.randint(VOCABULARY, (count,), generator=generator).to(DEVICE)


def equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


HEADS: dict[str, Callable[[Tensor], Head]] = {
    "plain": lambda weight: lambda states: states @ weight.T,
    "capped": lambda weight: lambda states: torch.tanh(states @ weight.T / 2) * 2,
    "at a temperature": lambda weight: lambda states: states @ weight.T / 0.7,
    "kept by its maker": lambda weight: lambda states: (states @ weight.T).tanh(),  # its backward pass reads the result
    "a view": lambda weight: lambda states: (weight @ states.T).T,
}


@liger_test
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("chunk", [4, 64])
@pytest.mark.parametrize("measure", [text_loss, token_losses])
def test_losses_and_gradients_are_those_of_torch(measure: Any, chunk: int, head: str) -> None:
    states, weight, labels = drawn()
    upstream = torch.linspace(-2.0, 3.0, len(labels), device=DEVICE) if measure is token_losses else 0.3
    found = []
    for cross_entropy in (torch_cross_entropy, liger_cross_entropy):
        losses, correct = measure(states, HEADS[head](weight), labels, chunk, cross_entropy)
        gradients = torch.autograd.grad((losses * upstream).sum(), (states, weight))
        found.append((losses.detach(), correct, *gradients))
    equal(found[1], found[0])
    assert found[1][0].dtype == torch.float32 and not found[1][1].requires_grad


@liger_test
def test_the_callers_logits_are_left_alone() -> None:
    logits = torch.randn(4, VOCABULARY, device=DEVICE, requires_grad=True)
    before, labels = logits.detach().clone(), torch.arange(4, device=DEVICE)
    liger_cross_entropy(logits, labels, "sum").backward()
    assert torch.equal(logits.detach(), before)
    assert logits.grad is not None and logits.grad.any()
    with torch.no_grad():
        equal(liger_cross_entropy(before, labels, "none"), torch_cross_entropy(before, labels, "none"))
    assert torch.equal(logits.detach(), before)


@liger_test
def test_a_half_precision_head_gets_its_gradient_in_its_own_type() -> None:
    states, weight, labels = drawn(dtype=torch.bfloat16)
    found = []
    for cross_entropy in (torch_cross_entropy, liger_cross_entropy):
        loss, _ = text_loss(states, HEADS["plain"](weight), labels, cross_entropy=cross_entropy)
        found.append((loss.detach(), *torch.autograd.grad(0.3 * loss, (states, weight))))
    assert found[1][0].dtype == torch.float32 and found[1][1].dtype == torch.bfloat16
    torch.testing.assert_close(found[1], found[0])


@liger_test
def test_fewer_logits_are_held() -> None:
    """Torch makes the gradient beside the log-probabilities; here it stands where they would."""
    _, _, labels = drawn()
    logits = torch.randn(len(labels), VOCABULARY, device=DEVICE, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        loss = liger_cross_entropy(logits, labels, "sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert len(kept) == 1 and gradient.data_ptr() == kept[0].data_ptr()


@liger_test
def test_a_second_backward_pass_is_refused() -> None:
    logits = torch.randn(3, VOCABULARY, device=DEVICE, requires_grad=True)
    loss = liger_cross_entropy(logits, torch.arange(3, device=DEVICE), "sum")
    torch.autograd.grad(0.5 * loss, logits, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, logits)


class Seen(TorchDispatchMode):
    """Names of the operations that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@liger_test
def test_nothing_is_read_back_from_the_gpu() -> None:
    states, weight, labels = drawn()
    with Seen() as seen:
        loss, _ = text_loss(states, HEADS["plain"](weight), labels, 4, liger_cross_entropy)
        (0.3 * loss).backward()
    assert {"mm", "argmax", "mul_"} <= seen.names  # forward and backward were both watched
    assert not seen.names & {"_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "masked_select"}


@liger_test
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_no_targets_cost_nothing(reduction: str) -> None:
    logits = torch.zeros(0, VOCABULARY, device=DEVICE, requires_grad=True)
    losses = liger_cross_entropy(logits, torch.zeros(0, dtype=torch.int64, device=DEVICE), reduction)
    assert losses.shape == (() if reduction == "sum" else (0,)) and losses.sum() == 0
    losses.sum().backward()


@liger_test
@pytest.mark.parametrize("family", ["llama", "cohere", "gemma2", "t5", "flan-t5"])
@pytest.mark.parametrize("by_token", [False, True])
def test_backbones_give_the_same_loss_and_gradients(family: str, by_token: bool, build: Build, kit: Any) -> None:
    found: list[list[Tensor]] = []
    hits: list[Any] = []
    for cross_entropy in ("torch", "liger"):
        backbone = kit["awaken"](build(family, lora=kit["lora"](), cross_entropy=cross_entropy)).to(DEVICE)
        batch, media = kit["conversation_batch"](backbone)
        moved = {modality: (own.to(DEVICE), mask.to(DEVICE)) for modality, (own, mask) in media.items()}
        output = backbone(batch.to(DEVICE), moved, by_token, 0.8)
        learnt = [own for part in backbone.parts().values() for own in part]
        gradients = torch.autograd.grad(0.3 * output.text_loss, learnt)
        found.append([output.text_loss.detach(), *gradients])
        if output.token_losses is not None:
            found[-1].append(output.token_losses.detach())
        hits.append(output.correct)
    assert torch.equal(hits[0], hits[1])
    # Rounding grows through the layers, most in T5, which doesn't scale its attention: judged by a tensor's largest.
    bound = 5e-5 if family == "t5" else 1e-5
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound * float(theirs.abs().max()))


@liger_test
def test_the_embedded_llm_gives_the_same_loss_and_gradients(kit: Any) -> None:
    found = []
    for cross_entropy in ("torch", "liger"):
        torch.manual_seed(0)
        backbone = CausalBackbone(POCKET, cross_entropy=cross_entropy)  # type: ignore[arg-type]
        backbone.materialize()
        output = backbone.to(DEVICE)(kit["text_batch"]([12, 7]).to(DEVICE), {})
        output.text_loss.backward()
        found.append((output.text_loss.detach(), output.correct, backbone.rows.run_starts.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


@liger_test
def test_a_machine_without_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"'liger' and logits on cpu; .*expects a GPU.*leave cross_entropy at torch"):
        liger_cross_entropy(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), "sum")


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_missing_library_is_told_at_once(family: str, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "liger_kernel"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(ValueError, match=r"found 'liger', but .*can't be imported.*pip install 'isthmus\[liger\]'"):
        build(family, cross_entropy="liger")


def test_an_unknown_library_is_refused() -> None:
    assert chosen_cross_entropy("torch") is torch_cross_entropy
    with pytest.raises(ValueError, match="cross_entropy: found 'apex'; expected 'torch' or 'liger'"):
        chosen_cross_entropy("apex")  # type: ignore[arg-type]
