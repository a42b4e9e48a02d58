"""Media that are made by rule, and only once somebody looks: their name tells what they are without their array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isthmus.types import Media, Modality


class DeferredMedia(Media):
    """A medium whose array is made when it is first read.

    Args:
        modality: of the medium.
        content: names all that decides the array: equal names, equal media.
        make: makes it; called at most once.
    """

    content: str

    def __init__(self, modality: Modality, content: str, make: Callable[[], Media]) -> None:
        # The base is frozen, and its fields are what the medium will have.
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
        """Whether the array is there."""
        return "_make" not in vars(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Media, (self.modality, self.array, self.rate, self.source, self.details)
