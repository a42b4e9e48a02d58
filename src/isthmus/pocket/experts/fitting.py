"""How embedded experts are trained: warm-up and cosine, clipping, averaged weights, a progress bar; and stored."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

log = logging.getLogger(__name__)


def fit(
    name: str,
    modules: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    learning_rate: float,
    *,
    weight_decay: float = 0.01,
    warm_up: int = 50,
    average: float | None = None,
    snapshot: Path | None = None,
    snapshot_every: int = 500,
    seed: int = 0,
) -> nn.Module:
    """Minimises ``loss(step)`` over the trainable weights of ``modules``; returns them, or their running average.

    Args:
        name: the label of the progress bar.
        modules: the trained modules; their frozen weights aren't changed.
        loss: the loss of a step, a pure function of the step's number (with generators seeded by it).
        steps: number of steps.
        learning_rate: AdamW's peak; it rises linearly over ``warm_up`` steps and falls along a cosine to a twentieth.
        weight_decay: AdamW's.
        warm_up: steps.
        average: decay of an exponential moving average, None for none.
        snapshot: file of the state, written every ``snapshot_every`` steps, from which an interrupted run resumes. A
            snapshot of other settings or initial weights is ignored.
        snapshot_every: steps between two snapshots.
        seed: of torch's global generator; step s runs with seed + s.

    Raises:
        FloatingPointError: the loss isn't finite.
    """
    trained = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98))
    schedule = SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, 1 / warm_up, 1.0, warm_up),
            CosineAnnealingLR(optimizer, max(steps - warm_up, 1), learning_rate / 20),
        ],
        [warm_up],
    )
    averaged = AveragedModel(modules, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True) if average else None
    first = 0
    recipe = f"{name} {steps} {learning_rate} {weight_decay} {warm_up} {average} {seed} {_digest(modules)}"
    if snapshot is not None and snapshot.is_file():
        state = torch.load(snapshot, weights_only=True)
        if state.get("recipe") != recipe:
            log.info("%s: %s belongs to another recipe and is passed over", name, snapshot)
        else:
            modules.load_state_dict(state["modules"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            if averaged:
                averaged.load_state_dict(state["averaged"])
            first = state["step"]
    modules.train()
    bar = tqdm(range(first, steps), desc=name, initial=first, total=steps, mininterval=5)
    smooth = 0.0
    for step in bar:
        torch.manual_seed(seed + step)
        optimizer.zero_grad(set_to_none=True)
        value = loss(step)
        value.backward()
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"{name}: the loss is {float(value.detach())} at step {step}; lower the learning rate"
            )
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if averaged:
            averaged.update_parameters(modules)
        smooth = float(value.detach()) if step == first else 0.98 * smooth + 0.02 * float(value.detach())
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        if snapshot is not None and (step + 1) % snapshot_every == 0:
            _keep(snapshot, recipe, step + 1, modules, optimizer, schedule, averaged)
    log.info("%s: %d steps, loss %.4f", name, steps, smooth)
    result = copy.deepcopy(averaged.module) if averaged else modules
    return result.eval()


def _digest(modules: nn.Module) -> str:
    digest = sha256()
    for name, tensor in modules.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _keep(
    path: Path,
    recipe: str,
    step: int,
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: SequentialLR,
    averaged: AveragedModel | None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "recipe": recipe,
        "step": step,
        "modules": modules.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "averaged": averaged.state_dict() if averaged else None,
    }
    # Written to another file and renamed, so that a killed run never leaves an incomplete snapshot.
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def parameter_count(modules: Iterable[nn.Module]) -> int:
    """The total number of the modules' weights."""
    return sum(p.numel() for module in modules for p in module.parameters())


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as the embedded experts' files store them: on the CPU, and float16 where they are floats.

    Experts load them as what they compute in.
    """
    return {
        key: value.detach().to("cpu", torch.float16 if value.is_floating_point() else value.dtype)
        for key, value in weights.items()
    }
