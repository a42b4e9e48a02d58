"""Deprecated pipelines: still there, and silent."""

from __future__ import annotations

import logging
from typing import Any

import diffusers
import pytest
from newer_pipelines import NEWER
from tiny_pipelines import KINDS

from isthmus.generators.pipeline_classes import deprecation_silenced, pipeline_class


@pytest.mark.parametrize("name", sorted(kind.pipeline_name for kind in (*KINDS.values(), *NEWER.values())))
def test_the_pipeline_still_exists(name: str) -> None:
    try:
        found = pipeline_class(name)
    except ValueError as error:
        pytest.fail(
            f"diffusers {diffusers.__version__} dropped {name} ({error}). Keep the bound in pyproject.toml below that "
            f"version, or write its sampling loop in isthmus/generators: condition and denoising_loss need only the "
            f"parts (UNet, VAE, vocoder), and generate alone calls the pipeline."
        )
    assert issubclass(found, diffusers.DiffusionPipeline) and found.__name__ == name


def test_a_dropped_pipeline_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"has no DroppedPipeline.*Install a version that still has it"):
        pipeline_class("DroppedPipeline")


def test_only_the_deprecation_is_silenced(build: Any) -> None:
    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    messages: list[str] = []
    logger, handler = logging.getLogger("diffusers.pipelines.pipeline_utils"), Kept()
    logger.addHandler(handler)
    try:
        generator = build("audio", num_inference_steps=1)
        generator.generate(generator.condition(["cat"]), [0])
        assert not messages
        with deprecation_silenced():
            logger.warning("something else")
        logger.warning("The X has been deprecated and will not receive fixes")
    finally:
        logger.removeHandler(handler)
    assert messages == ["something else", "The X has been deprecated and will not receive fixes"]


def test_loading_draws_no_bars_and_leaves_the_setting(build: Any, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging as library

    before = library.is_progress_bar_enabled()
    library.enable_progress_bar()
    try:
        build("video").load()
        assert "Loading weights" not in capfd.readouterr().err
        assert library.is_progress_bar_enabled()
    finally:
        if not before:
            library.disable_progress_bar()
