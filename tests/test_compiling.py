"""What ``torch.compile`` needs is asked for by name, before it is needed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch._inductor import config

from isthmus.compiling import check_compiler, compile_in_place


def test_a_cpu_without_a_compiler_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_compiler("backbone compiled", torch.device("cpu"))
    monkeypatch.setenv("PATH", str(tmp_path))
    module = torch.nn.Linear(2, 2)
    with (
        config.patch({"cpp.cxx": (None, str(tmp_path / "no-such-compiler"))}),
        pytest.raises(ValueError, match=r"backbone compiled: found no C\+\+ compiler.*Fix: install g\+\+, or set it"),
    ):
        compile_in_place(module, "backbone compiled", torch.device("cpu"))


def test_a_gpu_without_triton_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(ValueError, match=r"output_side.compiled: found no Triton for cuda.*GPU builds"):
        check_compiler("output_side.compiled", torch.device("cuda"))


class Small(torch.nn.Module):
    """A layer and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3) -> (N, 4)."""
        return (self.layer(x).sin() * x.sum()).tanh()


@pytest.mark.slow
def test_results_and_gradients_are_the_modules_own() -> None:
    torch.manual_seed(0)
    plain = Small()
    fused = copy.deepcopy(plain)
    for _ in range(2):
        compile_in_place(fused, "test", torch.device("cpu"))
    torch._dynamo.utils.counters.clear()
    for size in (3, 5, 8):
        x = torch.linspace(-2, 2, 3 * size, requires_grad=True)
        outs = [module(x.view(size, 3)) for module in (fused, plain)]
        torch.testing.assert_close(*outs)
        ours, wanted = (torch.autograd.grad(out.square().sum(), x)[0] for out in outs)
        torch.testing.assert_close(ours, wanted)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] in (1, 2)  # the second for any size
