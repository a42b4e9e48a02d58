"""Which generators' weights are on the device: a few, of those that were used last. The others' are in host memory.

``accelerate`` and ``diffusers`` offload by hooks on each module's ``forward``, which a VAE's ``decode`` passes by, and
read weights back from the device each time, or move them again at each denoising step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from isthmus.generators.base import Generator

log = logging.getLogger(__name__)


class Residency:
    """Moves generators to the device when they are used, and the least recently used ones off it before.

    Weights of frozen experts don't change (but for those that Shap-E writes anew before it reads them), so that host
    memory keeps them once they were moved off: this is the only time that they are copied from the device. For a GPU
    that memory is pinned, so that it is read at full speed. One thread may use it at a time. Models that share
    generators must share it too.

    Args:
        device: where generators compute.
        count: generators that are on it at once; at least one.
    """

    def __init__(self, device: torch.device, count: int) -> None:
        assert count >= 1
        self.device, self.count = device, count
        self._present: dict[Generator, None] = {}  # in the order of their last use
        self._hosts = WeakTensorKeyDictionary()  # weight -> what host memory keeps of it

    @property
    def present(self) -> list[Generator]:
        """Those on the device, the least recently used one first."""
        return list(self._present)

    @torch.inference_mode(False)
    def bring(self, generator: Generator) -> None:
        """Makes sure that a generator is on the device. Parts that it hasn't loaded yet will be loaded there."""
        if generator in self._present:
            self._present[generator] = self._present.pop(generator)
            return
        while len(self._present) >= self.count:
            self._take_off(next(iter(self._present)))
        self._present[generator] = None
        try:
            for tensor in _tensors(generator):
                if (host := self._hosts.get(tensor)) is not None:
                    tensor.data = torch.empty_like(host, device=self.device).copy_(host, non_blocking=True)
            generator.to(self.device)  # what was never moved off
        except BaseException:  # such as a lack of memory: what came so far would stay
            self._take_off(generator)
            raise
        log.info("the generator of %s is on %s", generator.modality, self.device)

    def _take_off(self, generator: Generator) -> None:
        del self._present[generator]
        for tensor in _tensors(generator):
            if tensor not in self._hosts:
                self._hosts[tensor] = self._copied(tensor)
            tensor.data = self._hosts[tensor]
        log.info("the generator of %s is in host memory", generator.modality)

    def _copied(self, tensor: Tensor) -> Tensor:
        host = torch.empty_like(tensor, device="cpu", pin_memory=self.device.type == "cuda", requires_grad=False)
        return host.copy_(tensor.detach())


def _tensors(generator: Generator) -> Iterator[Tensor]:
    """Its weights and buffers, among them the one that says where further parts will be loaded."""
    return chain(generator.parameters(), generator.buffers())
