"""Adapters in the linear layers of a frozen LLM, by ``peft``: LoRA and similar methods."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from isthmus.earlier.options import takes_present_names
from isthmus.part_card import PartCard

if TYPE_CHECKING:
    from peft import PeftConfig

Method = Literal["lora", "rslora", "dora", "vera", "ia3"]

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "q", "k", "v", "o"]
"""Attention's four projections: Llama, Qwen, GLM and Cohere; the output's in OPT; all four in T5."""

FEEDFORWARD = ["down_proj", "fc2", "wo"]
"""The feed-forward block's last layer: Llama and similar LLMs; OPT; T5."""

IA3_TARGETS = ["k_proj", "v_proj", "k", "v", *FEEDFORWARD]
"""(IA)^3 rescales keys, values and the inner activations of the feed-forward block."""


@takes_present_names
@dataclass(frozen=True)
class LoraSettings:
    """The LLM's adapters. The defaults are those of NExT-GPT's released 7B model.

    Attributes:
        r: rank of the two factors; (IA)^3 has none.
        lora_alpha: the update is scaled by lora_alpha / r; in rsLoRA by lora_alpha / sqrt(r); VeRA and (IA)^3
            don't scale.
        lora_dropout: on the adapter's input, while it trains; (IA)^3 has none.
        target_modules: names of the linear layers to adapt, a regular expression of their full names, or ``all-linear``
            (all but the head). If None, the projections of every attention; for (IA)^3 the layers of its paper.
        method: ``lora`` (Hu et al., arXiv 2106.09685); ``rslora`` (arXiv 2312.03732) for high ranks; ``dora`` (arXiv
            2402.09353), which learns the magnitude of each weight row separately; ``vera`` (arXiv 2310.11454), whose
            factors are random, shared and fixed, so that only two vectors of each layer are trained (its ranks are
            higher, such as 256); ``ia3`` (arXiv 2205.05638), one vector for each layer.
    """

    card = PartCard(
        takes="the LLM's linear layers",
        gives="the same, adapted",
        widths="its rank",
        code="Apache-2.0 (peft)",
        within="language_model.lora",
    )

    r: int = 32
    lora_alpha: float = 32
    lora_dropout: float = 0.1
    target_modules: str | list[str] | None = None
    method: Method = "lora"

    def __post_init__(self) -> None:
        if self.r < 1 or self.lora_alpha <= 0 or not 0 <= self.lora_dropout < 1:
            raise ValueError(
                f"lora: found r {self.r}, lora_alpha {self.lora_alpha}, lora_dropout {self.lora_dropout}; "
                "expected r >= 1, lora_alpha > 0 and 0 <= lora_dropout < 1"
            )

    @property
    def scale(self) -> float | None:
        """The factor of the update; None for a method that doesn't scale it."""
        match self.method:
            case "vera" | "ia3":
                return None
            case "rslora":
                return self.lora_alpha / math.sqrt(self.r)
            case _:
                return self.lora_alpha / self.r


def changes_nothing(state: Mapping[str, Tensor]) -> bool:
    """Whether LoRA's tensors are as training finds them: the second factors, which begin at zero, still are."""
    second = [tensor for name, tensor in state.items() if "lora_B" in name]
    return bool(second) and not any(tensor.any() for tensor in second)


def inject_lora(llm: nn.Module, settings: LoraSettings) -> None:
    """Adds adapters to the LLM's linear layers; before training they don't change its output.

    LoRA's first factor is drawn from the global random state, VeRA's from a fixed seed. Trained parameters are float32,
    whatever the LLM's type.

    Raises:
        ValueError: ``target_modules`` match no layer.
    """
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    config = _library_config(settings)
    linears = sorted({name.rpartition(".")[2] for name, module in llm.named_modules() if isinstance(module, nn.Linear)})
    try:
        # As in peft.inject_adapter_in_model, which doesn't support VeRA; its layers keep the shared factors anyway.
        PEFT_TYPE_TO_TUNER_MAPPING[PeftType(config.peft_type)](llm, config, adapter_name="default")
    except ValueError as error:
        raise ValueError(
            f"lora.target_modules: found {settings.target_modules}, which can't be adapted in "
            f"{type(llm).__name__} ({error}); "
            f"expected names among its linear layers: {', '.join(linears)}, or all-linear"
        ) from error
    for parameter in lora_parameters(llm):
        parameter.data = parameter.data.float()  # small updates vanish in half precision
    if settings.method == "vera":
        for layer in _lora_layers(llm):  # its inputs are float32, so its fixed factors are too
            layer.vera_A.float()
            layer.vera_B.float()
    getattr(llm, "base_model", llm).register_forward_pre_hook(_Casts())


def lora_parameters(llm: nn.Module) -> list[nn.Parameter]:
    """The adapters' parameters, in the LLM's order; none if it has no adapters."""
    return [parameter for name, parameter in llm.named_parameters() if _is_adapters(name)]


def lora_names(llm: nn.Module) -> dict[str, str]:
    """The adapters' weights: the name in a file of peft's -> the parameter's name in the LLM."""
    return {
        name.removesuffix(".default").replace(".default.", ".").replace("_vector.weight", "_vector"): name
        for name, _ in llm.named_parameters()
        if _is_adapters(name)
    }


def set_lora_dropout(llm: nn.Module, active: bool) -> None:
    """Switches only the adapters' dropout: the LLM always stays in eval mode."""
    for layer in _lora_layers(llm):
        for dropout in (getattr(layer, "lora_dropout", None), getattr(layer, "vera_dropout", None)):
            if dropout is not None:
                dropout.train(active)


class AdapterSwitch:
    """Switches the adapters of one LLM off: for a reference, and while they neither train nor add anything."""

    def __init__(self) -> None:
        self._is_reference = self._rests = self._are_zero = False
        self._seen: list[tuple[int, int]] | None = None

    @contextmanager
    def disabled(self, llm: nn.Module) -> Iterator[None]:
        """Disables the adapters within the block; which parameters train stays as it is."""
        _switch(llm, False)
        self._is_reference = True
        try:
            yield
        finally:
            _switch(llm, True)
            self._is_reference = self._rests = False

    def settle(self, llm: nn.Module, adapts: bool) -> None:
        """Before a pass: enables the adapters if they train or add anything."""
        if adapts:
            self._seen = None  # an optimizer that writes to ``.data`` leaves no trace in a tensor's version
        if not self._is_reference and (rests := not adapts and self._add_nothing(llm)) != self._rests:
            _switch(llm, not rests)
            self._rests = rests

    def _add_nothing(self, llm: nn.Module) -> bool:
        """Whether every second factor of LoRA is zero, as before training; values are read only after a change.

        Sharded and fake values aren't read, and DoRA's norms round even before training: False.
        """
        named = dict(llm.named_parameters())
        seconds = [parameter for name, parameter in named.items() if "lora_B" in name]
        seen = [(id(parameter), parameter._version) for parameter in seconds]
        if seen != self._seen:
            self._seen = seen
            is_plain = all(type(parameter) is nn.Parameter and not parameter.is_meta for parameter in seconds)
            is_lora = bool(seconds) and not any("lora_magnitude" in name for name in named)
            self._are_zero = is_plain and is_lora and not any(bool(own.any()) for own in seconds)
        return self._are_zero


def _switch(llm: nn.Module, enabled: bool) -> None:
    trains = [(parameter, parameter.requires_grad) for parameter in lora_parameters(llm)]
    for layer in _lora_layers(llm):
        layer.enable_adapters(enabled)
    for parameter, requires_grad in trains:  # peft's switch sets gradients too
        parameter.requires_grad_(requires_grad)


class _Casts:
    """Before a pass: under autocast LoRA's inputs keep their type; else peft casts them to the factors' float32.

    Under autocast the product that follows undoes peft's cast: four copies of the activations for each layer. DoRA's
    norms need the cast.
    """

    def __init__(self) -> None:
        self._under_autocast: bool | None = None

    def __call__(self, llm: nn.Module, _inputs: object) -> None:
        under_autocast = torch.is_autocast_enabled(next(llm.parameters()).device.type)
        if under_autocast == self._under_autocast:
            return  # as at nearly every token
        self._under_autocast = under_autocast
        for layer in _lora_layers(llm):
            if hasattr(layer, "cast_input_dtype_enabled") and not layer.lora_variant:
                layer.cast_input_dtype_enabled = not under_autocast


def _library_config(settings: LoraSettings) -> PeftConfig:
    from peft import IA3Config, LoraConfig, VeraConfig

    targets = settings.target_modules or (IA3_TARGETS if settings.method == "ia3" else ATTENTION)
    match settings.method:
        case "ia3":
            inner = FEEDFORWARD if isinstance(targets, str) else [name for name in targets if name in FEEDFORWARD]
            return IA3Config(target_modules=targets, feedforward_modules=inner)
        case "vera":
            return VeraConfig(r=settings.r, vera_dropout=settings.lora_dropout, target_modules=targets)
        case _:
            return LoraConfig(
                r=settings.r,
                lora_alpha=settings.lora_alpha,  # type: ignore[arg-type] # annotated int; only ever divided
                lora_dropout=settings.lora_dropout,
                target_modules=targets,
                use_rslora=settings.method == "rslora",
                use_dora=settings.method == "dora",
            )


def _is_adapters(name: str) -> bool:
    return any(part in name for part in ("lora_", "vera_lambda_", "ia3_l"))


def _lora_layers(llm: nn.Module) -> Iterator[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return (module for module in llm.modules() if isinstance(module, BaseTunerLayer))
