"""An exponential moving average of what a stage trains: of that alone, so that nothing frozen is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from isthmus.backbones.owned_state import exchange, kept_of, own_share, share_of, with_share
from isthmus.training.engines.units import reshard

KEY = "isthmus_average"
"""Where a checkpoint holds it, beside the weights that learn."""


class Average:
    """The average after step n is ``decay`` of that after step n - 1, and the rest of the weights after step n.

    Lightning's ``EMAWeightAveraging`` copies the whole module, frozen experts and all, and knows one set of parameters
    for the whole run. Here torch's own ``AveragedModel`` holds the parameters that train in the present stage.

    Args:
        decay: share of the earlier average, at least 0 and below 1.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._averaged: AveragedModel | None = None
        self._stored: Mapping[str, Any] | None = None
        self._is_in = False

    def update(self, module: pl.LightningModule) -> None:
        """Takes the weights after an optimizer step."""
        assert not self._is_in, "the average is in the model's place"
        reshard(module, experts=False)  # a look without a backward pass, as of a watch, may have left it gathered
        with torch.no_grad():
            self._model(module).update_parameters(_shares(_trained(module)))

    def swap(self, module: pl.LightningModule) -> None:
        """Puts the average in the place of the weights that learn, or those back in their place.

        Before the first step there is no average, and nothing is done.
        """
        if self._averaged is None and self._stored is None:
            return
        reshard(module)
        for present, averaged in zip(_trained(module), self._model(module).module.parameters(), strict=True):
            exchange(present.detach(), averaged)
        self._is_in = not self._is_in

    def leave(self, module: pl.LightningModule) -> None:
        """Puts the weights that learn back, where something broke off while the average was in their place."""
        if self._is_in:
            self.swap(module)

    @contextmanager
    def __call__(self, module: pl.LightningModule) -> Iterator[None]:
        """The model has the averaged weights for the block's length."""
        self.swap(module)
        try:
            yield
        finally:
            self.leave(module)

    def state(self, module: pl.LightningModule) -> dict[str, Any] | None:
        """What a checkpoint holds: averaged tensors by the parameters' names, and how many steps went in."""
        if self._averaged is None and self._stored is None:
            return None
        averaged = self._model(module)
        places = zip(_trained(module), averaged.module.parameters(), strict=True)
        own = {id(parameter): kept_of(with_share(parameter, held.detach())) for parameter, held in places}
        names = module.named_parameters(remove_duplicate=False)  # a shared projector has several
        tensors = {name: own[id(parameter)] for name, parameter in names if parameter.requires_grad}
        return {"tensors": tensors, "steps": int(averaged.n_averaged)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what :meth:`state` gave."""
        self._stored, self._averaged = state, None

    def _model(self, module: pl.LightningModule) -> AveragedModel:
        """The average, on the device of what trains: in a checkpoint it is on the CPU."""
        if self._averaged is not None:
            return self._averaged
        with torch.inference_mode(False), torch.no_grad():  # validation may be the first to ask
            averaged = AveragedModel(_shares(_trained(module)), multi_avg_fn=get_ema_multi_avg_fn(self.decay))
            averaged.requires_grad_(False)
            if self._stored is not None:
                own = {name: each for name, each in module.named_parameters() if each.requires_grad}
                for (name, each), held in zip(own.items(), averaged.module.parameters(), strict=True):
                    held.copy_(own_share(share_of(each, self._stored["tensors"][name])))
                averaged.n_averaged.fill_(self._stored["steps"])
        self._averaged, self._stored = averaged, None
        return averaged


def _trained(module: pl.LightningModule) -> list[nn.Parameter]:
    return [own for own in module.parameters() if own.requires_grad]


def _shares(trained: Sequence[nn.Parameter]) -> nn.ParameterList:
    """The parameters; of sharded ones this process's shards, which aren't copied."""
    return nn.ParameterList(nn.Parameter(own_share(own.detach()), requires_grad=False) for own in trained)
