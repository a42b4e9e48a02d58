"""Plain text that no training set of the repository has, on which an LLM's perplexity is measured."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.resources import files

import yaml

TOPICS = (
    "assert", "booleans", "break", "class", "conversions", "exceptions", "for", "function", "import", "lambda",
    "naming", "numbers", "objects", "operator-summary", "return", "slicings", "strings", "try", "while", "with",
)  # fmt: skip
"""Sections of Python's language reference, which every interpreter brings along (``help("while")`` shows one)."""
LENGTH = 1200
"""Characters that are read of a section, from its beginning."""


@cache
def passages() -> tuple[str, ...]:
    """A dozen passages of everyday and factual prose, written for this test."""
    content = yaml.safe_load(files("isthmus.data.plain").joinpath("passages.yaml").read_text(encoding="utf-8"))
    return tuple(content.values())


@cache
def reference_sections() -> tuple[str, ...]:
    """The beginnings of sections of Python's language reference, as the running interpreter has them."""
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    return tuple(" ".join(topics[name].split())[:LENGTH] for name in TOPICS if name in topics)
