"""How large each part's gradients are, and how much memory a run takes: logged beside the losses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from isthmus.training.module import training_module

log = logging.getLogger(__name__)

GIB = 2**30


class GradientNorms(pl.Callback):
    """Logs each part's 2-norm of gradients before they are clipped, as ``gradient_norm/PART``, where the Trainer logs.

    Not under DeepSpeed, which holds gradients by itself.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Between the backward pass and clipping."""
        if not trainer._logger_connector.should_update_logs or isinstance(trainer.strategy, DeepSpeedStrategy):
            return
        found: dict[str, Tensor] = {}
        for part, parameters in training_module(pl_module).model.parts().items():
            gradients = [own.grad for own in parameters.values() if own.grad is not None]
            if gradients:
                norm = nn.utils.get_total_norm(gradients)
                found[f"gradient_norm/{part}"] = norm.full_tensor() if isinstance(norm, DTensor) else norm
        pl_module.log_dict(found)


class MemoryUse(pl.Callback):
    """Logs the memory of the first process in GiB where the Trainer logs, and how busy its GPU is, where there is one.

    Load, temperature and power come from NVIDIA's library, if ``nvidia-ml-py`` is installed. A figure that the driver
    doesn't give, as a share of a GPU has no load of its own, is left out from then on.
    """

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Asks neither the device to wait nor other processes."""
        if not trainer._logger_connector.should_update_logs:
            return
        figures = {"memory/process": psutil.Process().memory_info().rss / GIB}
        if pl_module.device.type == "cuda":
            figures |= gpu(trainer, pl_module.device, self._refused)
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.fit_loop.epoch_loop._batches_that_stepped)


def gpu(trainer: pl.Trainer, device: torch.device, refused: set[str]) -> dict[str, float]:
    """Memory by torch's own count, and what the driver says of the device.

    Args:
        trainer: of the run.
        device: a GPU.
        refused: figures that the driver doesn't give; those that it refuses now are added.
    """
    stats = trainer.accelerator.get_device_stats(device)
    figures = {
        "memory/gpu_peak": stats["allocated_bytes.all.peak"] / GIB,
        "memory/gpu_allocated": stats["allocated_bytes.all.current"] / GIB,
        "memory/gpu_reserved": stats["reserved_bytes.all.current"] / GIB,
    }
    if find_spec("pynvml") is not None:
        asked: dict[str, Callable[[], float]] = {
            "gpu/load_percent": lambda: float(torch.cuda.utilization(device)),
            "gpu/degrees_celsius": lambda: float(torch.cuda.temperature(device)),
            "gpu/watts": lambda: torch.cuda.power_draw(device) / 1000,
        }
        for name, ask in asked.items():
            if name in refused:
                continue
            try:
                figures[name] = ask()
            except Exception as error:  # the library has an error of its own for each reason; none of them ends a run
                refused.add(name)
                log.info("%s: the driver doesn't give it (%s); it isn't logged", name, error)
    return figures
