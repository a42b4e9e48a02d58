"""The diffusers pipeline classes, current or deprecated, without log messages that don't concern users."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def pipeline_class(name: str) -> Any:
    """The diffusers pipeline class ``name``.

    Raises:
        ValueError: the installed diffusers has dropped it.
    """
    import diffusers

    for module in ("diffusers", "diffusers.pipelines.deprecated"):
        try:
            # Pipeline modules import image processors that no generator here uses.
            with _silenced("transformers.utils.import_utils", "requires torchvision (not installed)"):
                return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ValueError(
        f"diffusers {diffusers.__version__} has no {name}. Install a version that still has it (0.42.1 does), "
        f"or choose another generator for this modality."
    )


@contextmanager
def deprecation_silenced() -> Iterator[None]:
    """Hides the log message that a pipeline is deprecated; :func:`pipeline_class` reports its removal."""
    with _silenced("diffusers.pipelines.pipeline_utils", "has been deprecated and will not receive"):
        yield


@contextmanager
def _silenced(logger_name: str, phrase: str) -> Iterator[None]:
    def keeps(record: logging.LogRecord) -> bool:
        return phrase not in record.getMessage()

    logger = logging.getLogger(logger_name)
    logger.addFilter(keeps)
    try:
        yield
    finally:
        logger.removeFilter(keeps)
