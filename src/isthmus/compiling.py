"""``torch.compile`` behind one door, which says plainly where it can't be had."""

from __future__ import annotations

import torch
from torch import nn

VERSIONS = 64
"""Of one function, at most; torch gives up after 8. Layers come as first and last, with and without gradients and
adapters, and differ from stage to stage."""


def compile_in_place(module: nn.Module, option: str, device: torch.device, dynamic: bool | None = None) -> None:
    """From now on calls of the module run as ``torch.compile`` makes them; a further call of this does nothing.

    A copy of a compiled module, by ``copy`` or ``pickle``, isn't compiled: this has to be called for it again.

    Args:
        module: what is compiled, when it first runs.
        option: what switched it on, as the user wrote it, for the error.
        device: where it runs.
        dynamic: whether for any sizes from the first on; if None, once the second ones come.

    Raises:
        ValueError: this machine lacks what compiles for the device.
    """
    if module._compiled_call_impl is None:
        check_compiler(option, device)
        settings = torch._dynamo.config
        settings.recompile_limit = max(settings.recompile_limit, VERSIONS)
        module.compile(dynamic=dynamic)


def check_compiler(option: str, device: torch.device) -> None:
    """Asks for what ``torch.compile`` needs: a C++ compiler on a CPU, Triton on a GPU.

    Raises:
        ValueError: it isn't there.
    """
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except (InvalidCxxCompiler, RuntimeError) as error:
            raise ValueError(
                f"{option}: found no C++ compiler, which torch.compile needs on a CPU; expected one on PATH or in "
                "CXX. Fix: install g++, or set it to false."
            ) from error
    else:
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ValueError(
                f"{option}: found no Triton for {device}, which torch.compile needs there; expected the one that "
                "torch's own GPU builds bring. Fix: install such a build of torch, or set it to false."
            )
