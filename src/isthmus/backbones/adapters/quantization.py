"""Frozen weights in 4 or 8 bits (QLoRA, Dettmers et al., arXiv 2305.14314), through ``bitsandbytes``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import torch

from isthmus.earlier.options import takes_present_names
from isthmus.part_card import PartCard

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


@takes_present_names
@dataclass(frozen=True)
class QuantizationSettings:
    """Quantisation of the LLM's linear layers. Embedding, head and norms keep the backbone's ``dtype``.

    Attributes:
        bits: 4 (QLoRA), or 8 (LLM.int8(), arXiv 2208.07339).
        quant_type: 4-bit data type: ``nf4`` suits normally distributed weights.
        use_double_quant: whether the scales of 4-bit blocks are quantised too, which saves about 0.4 bits for
            each weight.
    """

    card = PartCard(
        takes="the LLM's linear layers",
        gives="the same, frozen, in 4 or 8 bits",
        widths="the LLM's",
        code="MIT (bitsandbytes)",
        weights="the LLM's own",
        checkpoint="none; `pip install bitsandbytes`",
        within="language_model.quantization",
    )

    bits: Literal[4, 8] = 4
    quant_type: Literal["nf4", "fp4"] = "nf4"
    use_double_quant: bool = True


def library_config(settings: QuantizationSettings, dtype: torch.dtype) -> BitsAndBytesConfig:
    """The settings for ``transformers``; 4-bit layers compute in ``dtype``.

    Raises:
        ValueError: ``bitsandbytes`` isn't installed.
    """
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise ValueError(
            f"quantization: found bits {settings.bits}, but no bitsandbytes; expected the package, which holds the "
            "quantised layers. Install it (`pip install bitsandbytes`), or remove the setting."
        )
    if settings.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quant_type,
        bnb_4bit_use_double_quant=settings.use_double_quant,
        bnb_4bit_compute_dtype=dtype,
    )
