"""Low-rank adaptation of a frozen LLM (Hu et al., arXiv 2106.09685), through ``peft``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class LoraSettings:
    """How the LLM is adapted. The defaults are those of NExT-GPT's released 7B model.

    Attributes:
        rank: rank of the two factors.
        alpha: the update is scaled by alpha / rank.
        dropout: on the adapter's input, while it trains.
        targets: names of the linear layers to adapt, a regular expression of their full names, or ``all-linear`` (all
            but the head).
    """

    rank: int = 32
    alpha: float = 32
    dropout: float = 0.1
    targets: str | list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"lora: found rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}; "
                "expected rank >= 1, alpha > 0 and 0 <= dropout < 1"
            )


def inject_lora(llm: nn.Module, settings: LoraSettings) -> None:
    """Puts adapters into the LLM's linear layers.

    The first factor is drawn from the global random state; the second is zero. Both are float32, whatever the
    LLM's type.

    Raises:
        ValueError: ``targets`` match no layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type] # annotated int; only ever divided
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
    )
    linears = sorted({name.rpartition(".")[2] for name, module in llm.named_modules() if isinstance(module, nn.Linear)})
    try:
        inject_adapter_in_model(config, llm)
    except ValueError as error:
        raise ValueError(
            f"lora.targets: found {settings.targets}, which can't be adapted in {type(llm).__name__} ({error}); "
            f"expected names among its linear layers: {', '.join(linears)}, or all-linear"
        ) from error
    for parameter in lora_parameters(llm):
        parameter.data = parameter.data.float()  # small updates vanish in half precision


def lora_parameters(llm: nn.Module) -> list[nn.Parameter]:
    """The adapters' parameters, in the LLM's order; none if it has no adapters."""
    return [parameter for name, parameter in llm.named_parameters() if "lora_" in name]


def lora_state(llm: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors under peft's names. They share memory with the parameters."""
    from peft import get_peft_model_state_dict

    state: dict[str, Tensor] = get_peft_model_state_dict(llm, save_embedding_layers=False)
    return state


def set_lora_dropout(llm: nn.Module, active: bool) -> None:
    """Switches the adapters' dropout alone: the LLM around them always stays in eval mode."""
    for layer in _lora_layers(llm):
        layer.lora_dropout.train(active)


@contextmanager
def adapters_disabled(llm: nn.Module) -> Iterator[None]:
    """The LLM as it was before tuning, for the block's length. Which parameters train is the same before and after."""
    layers = list(_lora_layers(llm))
    trains = [(parameter, parameter.requires_grad) for parameter in lora_parameters(llm)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, requires_grad in trains:  # peft's switch turns gradients on, whatever the stage says
            parameter.requires_grad_(requires_grad)


def _lora_layers(llm: nn.Module) -> Iterator[Any]:
    from peft.tuners.lora import LoraLayer

    return (module for module in llm.modules() if isinstance(module, LoraLayer))
