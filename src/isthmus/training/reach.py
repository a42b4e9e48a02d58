"""Which of the parts that train a gradient has reached, so that one which learnt nothing in a stage is told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from torch import Tensor, nn

from isthmus.backbones.owned_state import own_share
from isthmus.model import AnyToAny

log = logging.getLogger(__name__)


class Reach:
    """Looks at gradients until each part has had one that isn't 0.

    Most parts have one in the first step and are looked at no more. The others' answers gather on the device, and are
    read in steps 1, 2, 4, 8 and so on, so that the device isn't waited for in each step.

    Args:
        parts: that train.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = list(parts)
        self.waiting = set(parts)
        self.steps = 0
        self._parameters: dict[str, list[nn.Parameter]] = {}
        self._found: dict[str, Tensor] = {}

    def look(self, model: AnyToAny) -> None:
        """Between a step's backward pass and its optimizer step."""
        self.steps += 1
        if not self.waiting:
            return
        if not self._parameters:
            self._parameters = {part: list(own.values()) for part, own in model.parts().items() if part in self.parts}
        for part in self.waiting:
            gradients = [own_share(own.grad) for own in self._parameters[part] if own.grad is not None]
            gradients = [own for own in gradients if own.numel()]
            if gradients:
                found = nn.utils.get_total_norm(gradients, torch.inf) != 0
                self._found[part] = found | self._found[part] if part in self._found else found
        if self.steps & (self.steps - 1) == 0:
            self._read()

    def reached(self) -> list[str]:
        """The parts that a gradient has reached in this process."""
        self._read()
        return [part for part in self.parts if part not in self.waiting]

    def restore(self, reached: Iterable[str]) -> None:
        """Goes on from what another run of the same stage has found."""
        self.waiting -= set(reached)

    def unreached(self, device: torch.device) -> list[str]:
        """The parts that a gradient has reached in no process. Every process has to ask."""
        self._read()
        waits = torch.tensor([part in self.waiting for part in self.parts], dtype=torch.int32, device=device)
        if distributed.is_initialized():
            distributed.all_reduce(waits, distributed.ReduceOp.MIN)
        return [part for part, waits_still in zip(self.parts, waits.tolist(), strict=True) if waits_still]

    def tell(self, trainer: pl.Trainer, model: AnyToAny, stage: str) -> None:
        """Warns of the parts that no step has reached. Where no step was looked at there is nothing to tell."""
        if not self.steps:
            return
        unreached = self.unreached(model.device)
        if unreached and trainer.is_global_zero:
            log.warning(
                "stage '%s': found no gradient for %s in any of its steps, so that nothing was learnt there; expected "
                "one for each part that trains. Fix: give the stage data and losses that reach it, or take it out of "
                "trains.",
                stage,
                ", ".join(unreached),
            )

    def _read(self) -> None:
        if self._found:
            found = torch.stack([flag.to(next(iter(self._found.values())).device) for flag in self._found.values()])
            self.waiting -= {part for part, flag in zip(self._found, found.tolist(), strict=True) if flag}
            self._found.clear()
