"""What an engine that shards the model saves and loads: of all that a run owns, each process's shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.strategies import Strategy
from torch.optim import Optimizer

from isthmus.backbones.owned_state import share_of
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints
from isthmus.training.checkpoints.shard_reader import layout_of, layout_of_optimizers


class SavesShards(Strategy):
    """A strategy whose processes write and read one checkpoint together.

    What a module owns is saved, and the optimizer's state of what trains: frozen weights are in none of them. States
    are named by the parameters' order as in every other engine's checkpoint, so that each reads the others'. All is
    restored as under one process: the model before the optimizer is made, then the optimizer.
    """

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """No: a checkpoint says which stage it is of, and so what the optimizer is made for."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Yes, once there is one."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """This process's shards of what the module owns."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """This process's shards of an optimizer's state."""
        return Strategy.optimizer_state(self, optimizer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """See :meth:`RunCheckpoints.save_together`."""
        self._run_checkpoints().save_together(checkpoint, self.broadcast(filepath))

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """See :meth:`RunCheckpoints.load_shares`."""
        assert self.lightning_module is not None
        layout = layout_of(self.lightning_module.state_dict())
        return self._run_checkpoints().load_shares(self.broadcast(checkpoint_path), layout)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Copies what was loaded into the module's shards."""
        assert self.lightning_module is not None
        held, stored = self.lightning_module.state_dict(), checkpoint["state_dict"]
        shares = {name: share_of(held[name], own) if name in held else own for name, own in stored.items()}
        self.lightning_module.load_state_dict(shares, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Reads this process's shards of the optimizers' states."""
        states = self._run_checkpoints().load_later(checkpoint, layout_of_optimizers(self.optimizers))
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)

    def _run_checkpoints(self) -> RunCheckpoints:
        found = self.checkpoint_io
        assert isinstance(found, RunCheckpoints), "the stage switch has set it"
        return found
