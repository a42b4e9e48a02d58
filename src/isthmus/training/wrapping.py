"""How a Trainer holds the model and its callbacks, anew at each stage: DDP wraps what trains, and nothing else."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from isthmus.training.engines import Sharded
from isthmus.training.engines.units import begin_stage
from isthmus.training.running.callbacks import callbacks_of


def rewrap(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """A new optimizer, and DDP anew: what it wrapped before would leave newly trained weights out of its reduction.

    Shards stay where they are: their units only look at what trains now.

    These are Lightning's internals (``DDPStrategy.configure_ddp``, ``Strategy.setup_optimizers``): the dependency is
    pinned to a minor version, and a test with two processes guards them.
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        strategy.model = module
        strategy.configure_ddp()
    elif isinstance(strategy, Sharded):
        begin_stage(module)
    strategy.setup_optimizers(trainer)


def hide_frozen(module: pl.LightningModule) -> None:
    """Keeps what doesn't train out of DDP's broadcasts.

    It is the same file's on every rank, large, and not there on all: an expert loads when its first medium comes.
    """
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    buffers = [name for name, _ in module.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, frozen + buffers)


def come_last(trainer: pl.Trainer, switch: pl.Callback) -> None:
    """Puts a stage switch behind all callbacks but those that write checkpoints, wherever it was given.

    It enters the next stage when an epoch ends: what another callback did then, such as early stopping with the
    finished stage's loss, would be done to the next stage. A checkpoint is written by what the switch has entered.
    """
    callbacks = callbacks_of(trainer, pl.Callback)
    others = [each for each in callbacks if each is not switch and not isinstance(each, Checkpoint)]
    writers = [each for each in callbacks if isinstance(each, Checkpoint)]
    trainer.callbacks = [*others, switch, *writers]  # type: ignore[attr-defined]
