"""What half precision would spoil without a word, refused before a stage begins, with the fix."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
import torch

from isthmus.model import AnyToAny
from isthmus.training.stage import Stage
from isthmus.types import Modality

log = logging.getLogger(__name__)

TRUE_HALF = ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16")
SCALED = "16-mixed"
"""The Trainer's precision that scales losses, so that float16 gradients don't vanish."""


def check_precision(trainer: pl.Trainer) -> None:
    """Checks the Trainer's own precision.

    Raises:
        ValueError: it would hold what is learnt in half precision.
    """
    if trainer.precision in TRUE_HALF:
        raise ValueError(
            f"trainer.precision: found {trainer.precision}, which would hold what is learnt in half precision, "
            "where small updates vanish; expected 32-true, or bf16-mixed. Fix: to halve the frozen experts' memory "
            "set the dtype of each to bfloat16."
        )


def warn_of_float16(trainer: pl.Trainer, model: AnyToAny) -> None:
    """Says where gradients run through a float16 LLM that no loss scaler lifts.

    The more target positions a batch has, the smaller each one's gradient: with some ten thousand of them, what is
    learnt points elsewhere (``docs/precision.md`` has figures).
    """
    if model.backbone.language_model.dtype is torch.float16 and trainer.precision != SCALED:
        log.warning(
            "the LLM is float16, in which gradients of large batches vanish: set its dtype to bfloat16, or "
            "trainer.precision to %s",
            SCALED,
        )


def check_denoising(trainer: pl.Trainer, model: AnyToAny, stage: Stage, name: str) -> None:
    """Checks the generators through which a stage's gradients flow.

    Float16 has no numbers between 0 and 6e-8, and fewer digits below 6e-5: of a gradient through a denoiser more than
    nine elements in ten lie there.

    Raises:
        ValueError: one of them is float16, and no loss scaler lifts its gradients.
    """
    if model.output_side is None or not stage.learns_by.prepares(stage.losses) or trainer.precision == SCALED:
        return
    for modality in model.outputs:
        generator = model.output_side.generator(modality)
        if generator.dtype is torch.float16 and stage.losses.factor(Modality(modality)):
            raise ValueError(
                f"stage '{name}': found a denoising loss through {type(generator).__name__}, whose dtype is float16: "
                "most of its gradient would vanish. Fix: set dtype: bfloat16 of that generator; where the GPU has no "
                f"bfloat16, trainer.precision: {SCALED}."
            )
