"""Answers that need no model."""

from answered_digits import answered, asked

__all__ = ["answered", "asked"]
