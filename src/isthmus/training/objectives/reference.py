"""The model as it was when a stage began, without a second copy of the LLM: what trains, kept and swapped in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from isthmus.backbones.owned_state import exchange, kept_of, share_of
from isthmus.model import AnyToAny
from isthmus.training.engines.units import reshard


class Reference:
    """A copy of the owned parameters that train: LoRA, rows and bridges, a small part of the model.

    Args:
        tensors: by name, as :meth:`~isthmus.model.AnyToAny.named_owned` names them.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @classmethod
    def of(cls, model: AnyToAny) -> Reference:
        """What trains, as it is now."""
        reshard(model, experts=False)
        return cls({name: own.detach().clone() for name, own in model.named_owned() if own.requires_grad})

    def state(self) -> dict[str, Tensor]:
        """The tensors for a checkpoint."""
        return {name: kept_of(tensor) for name, tensor in self.tensors.items()}

    @contextmanager
    def __call__(self, model: AnyToAny) -> Iterator[None]:
        """The model is the reference for the block's length: in eval mode (no dropout), and without autograd.

        Autocast keeps half-precision copies of parameters for a whole step, under the parameters' identity. They are
        dropped here, or the policy's pass would use the reference's weights, and the reference's pass the policy's.

        Raises:
            ValueError: it was taken of a model or a stage that trains other parameters.
        """
        reshard(model, experts=False)
        owned = {name: own for name, own in model.named_owned() if own.requires_grad}
        if owned.keys() != self.tensors.keys():
            raise ValueError(
                f"reference: found {len(self.tensors)} parameters; expected the {len(owned)} that the stage trains. "
                "Fix: resume with the stage that the run was started with."
            )
        for name, own in owned.items():
            # Kept on the parameters' device, and in their layout: a checkpoint brings them whole, on the CPU.
            kept = self.tensors[name].to(own.device, own.dtype)
            self.tensors[name] = kept if isinstance(kept, DTensor) else share_of(own, kept)
        try:
            self._swap(model, owned)
            with eval_mode(model), torch.no_grad():
                yield
        finally:
            self._swap(model, owned)

    def _swap(self, model: AnyToAny, owned: Mapping[str, nn.Parameter]) -> None:
        """Exchanges the parameters' values with those that are kept; of sharded ones, each process its shard."""
        reshard(model, experts=False)
        with torch.no_grad():
            for name, own in owned.items():
                if isinstance(own, DTensor):  # FSDP2 gathers from the shard's own memory
                    exchange(own, self.tensors[name])
                else:
                    self.tensors[name], own.data = own.data, self.tensors[name]
        torch.clear_autocast_cache()


@contextmanager
def eval_mode(model: AnyToAny) -> Iterator[None]:
    """The model in eval mode for the block's length; every module's own mode comes back after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
