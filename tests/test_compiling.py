"""What ``torch.compile`` needs is asked for by name, before it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._inductor import config

from isthmus.compiling import check_compiler, compiled


def test_a_cpu_without_a_compiler_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_compiler("backbone compiled", torch.device("cpu"))
    monkeypatch.setenv("PATH", str(tmp_path))
    ran: list[torch.Tensor] = []
    step = compiled(ran.append, "backbone compiled", lambda: torch.device("cpu"))
    with (
        config.patch({"cpp.cxx": (None, str(tmp_path / "no-such-compiler"))}),
        pytest.raises(ValueError, match=r"backbone compiled: found no C\+\+ compiler.*Mend: install g\+\+, or set it"),
    ):
        step(torch.zeros(2))
    assert not ran


def test_a_gpu_without_triton_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(ValueError, match=r"output_side.compiled: found no Triton for cuda.*GPU builds"):
        check_compiler("output_side.compiled", torch.device("cuda"))


@pytest.mark.slow
def test_results_and_gradients_are_the_functions_own() -> None:
    def plain(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() * x).tanh()

    fused = compiled(plain, "test", lambda: torch.device("cpu"))
    for size in (3, 5, 8):
        x = torch.linspace(-2, 2, size, requires_grad=True)
        torch.testing.assert_close(fused(x), plain(x))
        ours, wanted = (torch.autograd.grad(call(x).sum(), x)[0] for call in (fused, plain))
        torch.testing.assert_close(ours, wanted)
