"""What is known of a part beside its code: each class that a config can name says it as its ``card``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PartCard:
    """What ``isthmus parts`` and ``docs/parts`` say of a class.

    The command reads cards from the source, without importing it: every value is a literal.

    Attributes:
        takes, gives: media, or tensors in the letters of :mod:`isthmus.types`.
        widths: of the published checkpoint, or where they come from.
        code: licence of the code that runs, and whose it is.
        weights: licence of the published weights.
        checkpoint: what it reads, and an example that can be downloaded.
        extra: of pyproject.toml, where the base install isn't enough.
        within: the argument of another part that it is given to, where it is none of the five kinds itself.
    """

    takes: str
    gives: str
    widths: str
    code: str = "Apache-2.0 (here)"
    weights: str = "trained here"
    checkpoint: str = "none"
    extra: str = ""
    within: str = ""
