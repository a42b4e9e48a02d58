"""What doesn't fit, worded for whoever wrote the configuration: the stage, the part and the fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from torch import nn

FAULTS = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError)
"""What code raises where shapes or types don't fit each other."""
KINDS = {
    "type": (
        ("dtype", "same type", "scalar type", "expected m1 and m2"),
        "let the part give the type that it is given, or set its dtype (docs/precision.md)",
    ),
    "shape": (
        ("shape", "size", "dimension", "broadcast", "channels", "expects", "in_features", "mat1"),
        "make the sizes in the part's init_args, or in its checkpoint's config.json, those of its neighbours",
    ),
}
"""What is wrong -> words that such errors use, and the fix."""
READS = ("DataDependentOutputException", "DynamicOutputShapeException")


@contextmanager
def told(what: str, model: nn.Module) -> Iterator[None]:
    """Words what the block raises.

    Args:
        what: is rehearsed, as ``stage 'encoder_alignment'``.
        model: whose parts' names are used.

    Raises:
        ValueError: the block has raised.
    """
    try:
        yield
    except FAULTS as error:
        part = part_of(error.__traceback__, model)
        found = f"{_kind(error)}: {_first_line(error)}. {_fix(error)}".rstrip()
        raise ValueError(f"rehearsal of {what}, {part}: found {found}") from error


def part_of(traceback: TracebackType | None, model: nn.Module) -> str:
    """The name of the innermost of the model's modules that a method of was running."""
    names = {module: name for name, module in model.named_modules() if name}
    found = "no single part"
    while traceback is not None:
        own = traceback.tb_frame.f_locals.get("self")
        if isinstance(own, nn.Module) and own in names:
            found = f"{names[own]} ({type(own).__name__})"
        traceback = traceback.tb_next
    return found


def _kind(error: BaseException) -> str:
    if type(error).__name__ in READS:
        return "a value that is read from a tensor, for which a GPU would wait"
    return next((f"a {kind} that doesn't fit" for kind, (words, _) in KINDS.items() if _has(error, words)), "a fault")


def _fix(error: BaseException) -> str:
    text = str(error)
    if "Fix: " in text:
        return ""
    if type(error).__name__ in READS:
        return "Fix: let the data's workers count it, and keep the count on the CPU."
    found = next((fix for words, fix in KINDS.values() if _has(error, words)), KINDS["shape"][1])
    return f"Fix: {found}."


def _has(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(error).lower() for word in words)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
