"""Which errors are worded for users: the ``ValueError`` that a line of this package raises."""

from __future__ import annotations

import traceback
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def is_worded(error: BaseException) -> bool:
    """Whether a line of this package raised it as a ``ValueError``, and so worded it for users."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        isinstance(error, ValueError) and bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(PACKAGE)
    )
