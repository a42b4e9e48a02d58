"""Media whose arrays are computed on first use, and which are identified by a name without their array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isthmus.types import Media, Modality


class DeferredMedia(Media):
    """A medium whose array is computed on first access.

    Args:
        modality: of the medium.
        content: a name that determines the array: equal names mean equal media.
        make: computes the medium; called at most once.
    """

    content: str

    def __init__(self, modality: Modality, content: str, make: Callable[[], Media]) -> None:
        # The base class is frozen, so fields are set without __setattr__.
        vars(self).update(modality=modality, content=content, source=content, _make=make)

    def __getattribute__(self, name: str) -> Any:
        if name in ("array", "rate", "details", "source"):
            own = super().__getattribute__("__dict__")
            if (make := own.pop("_make", None)) is not None:
                made = make()
                own.update(array=made.array, rate=made.rate, details=made.details, source=made.source)
        return super().__getattribute__(name)

    @property
    def is_made(self) -> bool:
        """Whether the array has been computed."""
        return "_make" not in vars(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Media, (self.modality, self.array, self.rate, self.source, self.details)
