"""What a Trainer must not be told where stages are run, refused before the first of them begins, with the fix."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from isthmus.backbones.owned_state import own_share
from isthmus.data.module import ConversationDataModule
from isthmus.model import AnyToAny
from isthmus.training.engines import Sharded
from isthmus.training.half_precision import check_denoising, check_precision, warn_of_float16
from isthmus.training.parameter_groups import plan_groups
from isthmus.training.running.ending import check_length
from isthmus.training.running.refused import check_arguments, check_callbacks, check_loggers, check_validation
from isthmus.training.stage import Stage
from isthmus.training.trainable import select_parts

log = logging.getLogger(__name__)


def check_run(
    trainer: pl.Trainer, model: AnyToAny, data: ConversationDataModule, stages: Mapping[str, Stage], run: Sequence[str]
) -> None:
    """Checks all that a run is told, so that what is wrong with its last stage shows before the first is trained.

    Args:
        trainer: set up as far as its strategy.
        model: built.
        data: of the run.
        stages: by name.
        run: names of those that are run.

    Raises:
        ValueError: something doesn't fit.
    """
    check_length(trainer, len(run))
    check_arguments(trainer)
    check_callbacks(trainer, bool(data.validation))
    check_loggers(trainer, data.num_workers, data.multiprocessing_context)
    check_precision(trainer)
    warn_of_float16(trainer, model)
    check_accumulation(trainer)
    check_several(trainer, run)
    lengths: dict[str, int] = {}
    for name in run:
        stage = stages[name]
        check_denoising(trainer, model, stage, name)
        check_divided(trainer, stage, name)
        check_kept(data, stage, name)
        check_sharded(trainer, stage, name)
        plan_groups(model, stage.trains, stage.groups, name)
        lengths[name] = data.length(name, stage.data, stage.steps, stage.epochs, stage.batch_size)
    check_validation(trainer, lengths)


def warn_of_untrained(model: AnyToAny, stages: Mapping[str, Stage], run: Sequence[str], is_own: bool) -> None:
    """Says where LoRA is configured, no stage of the run trains it, and no earlier one has: it has no effect then.

    Args:
        model: built, with its starting weights.
        stages: by name.
        run: names of those that are run.
        is_own: whether the user configured it. The default experts' is no reason for a warning: one line informs of it.
    """
    if "lora" not in model.parts() or any("lora" in select_parts(model, stages[name].trains, name) for name in run):
        return
    if any(_has_effect(name, own_share(own)) for name, own in model.owned_state()["lora"].items()):
        return
    if not is_own:
        log.info("lora: the default experts have it; no stage of this run trains it, so it has no effect")
        return
    others = [name for name, stage in stages.items() if "lora" in stage.trains]
    log.warning(
        "lora: it is configured, and no stage of this run (%s) trains it, so that the adapter stays without effect. "
        "Fix: add lora to a stage's trains%s, or take lora out of the backbone.",
        ", ".join(run),
        f", go on with a stage that trains it ({', '.join(others)})" if others else "",
    )


def _has_effect(name: str, adapter: Tensor) -> bool:
    """Whether one of an adapter's tensors isn't as it begins: 0 in what scales its update, 1 in (IA)^3's vectors."""
    if isinstance(adapter, FakeTensor):
        return True  # a rehearsal has no values
    if "ia3" in name:
        return bool((adapter != 1).any())
    return ("lora_B" in name or "lambda_b" in name) and bool(adapter.any())


def check_sharded(trainer: pl.Trainer, stage: Stage, name: str) -> None:
    """Checks a stage under a strategy that shards the model.

    Raises:
        ValueError: it is one of Lightning's that knows nothing of frozen parts; or one that holds what is learnt in
            buffers of its own, where the average or the reference can't be exchanged for it.
    """
    strategy = trainer.strategy
    if isinstance(strategy, ModelParallelStrategy | FSDPStrategy) and not isinstance(strategy, Sharded):
        raise ValueError(
            f"trainer.strategy: found {type(strategy).__name__}; expected isthmus.training.engines.Sharded, which "
            "shards by FSDP2 too and keeps to what trains. Fix: -c engines/fsdp2.yaml."
        )
    wanted = "ema" if stage.ema is not None else type(stage.learns_by).__name__ if stage.learns_by.compares else ""
    if wanted and isinstance(strategy, DeepSpeedStrategy):
        raise ValueError(
            f"stage '{name}': found {wanted} under DeepSpeedStrategy, which holds what is learnt in buffers of its "
            "own; expected one device, DDP or FSDP2. Fix: -c engines/fsdp2.yaml, or take it out."
        )


def check_kept(data: ConversationDataModule, stage: Stage, name: str) -> None:
    """Checks that there is something to keep, where a stage weighs ``keeping``.

    Raises:
        ValueError: none of the sources to keep is among the stage's.
    """
    found = list(data.sources if stage.data is None else stage.data)
    if stage.losses.keeping and not set(stage.losses.kept_sources) & set(found):
        raise ValueError(
            f"stage '{name}': losses.kept_sources: found {', '.join(stage.losses.kept_sources) or 'none'}; expected "
            f"one of the stage's sources: {', '.join(found)}. Fix: name those that hold the LLM's own answers, or set "
            "losses.keeping to 0."
        )


def check_several(trainer: pl.Trainer, names: Sequence[str]) -> None:
    """Checks a run of several stages in one process.

    Raises:
        ValueError: the strategy can't hold them, or a later stage would go on with the first one's data.
    """
    if len(names) < 2:
        return
    if trainer.strategy.restore_checkpoint_after_setup:
        raise ValueError(
            f"{type(trainer.strategy).__name__} restores a checkpoint after the optimizer is made, so it can't "
            f"hold {len(names)} stages in one process: run them one by one, each with training.init_from"
        )
    interval = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]  # set by a connector
    if interval != 1:
        raise ValueError(
            f"trainer.reload_dataloaders_every_n_epochs: found {interval}; expected 1, "
            "or a later stage would go on with the first one's data"
        )


def check_accumulation(trainer: pl.Trainer) -> None:
    """Refuses a Trainer's own accumulation of batches.

    It is a mean of the batches' means, in which the tokens of a batch of few count for more than those of others.

    Raises:
        ValueError: it is on.
    """
    if (found := trainer.accumulate_grad_batches) != 1:
        raise ValueError(
            f"found trainer.accumulate_grad_batches {found}, which would weigh the tokens of unlike batches unlike; "
            "expected none. Fix: take it out, give the stage the whole batch_size, and divide it by the stage's "
            "micro_batches: loss and gradients of the whole batch, in the memory of a part."
        )


def check_divided(trainer: pl.Trainer, stage: Stage, name: str) -> None:
    """Checks a stage that divides its batches.

    Gradients of a part bypass the strategy's hooks and the loss scaler, so both must be absent.

    Raises:
        ValueError: one of them is there.
    """
    if stage.micro_batches == 1:
        return
    strategy = trainer.strategy
    fits = isinstance(strategy, SingleDeviceStrategy | DDPStrategy | Sharded)
    fits = fits and not isinstance(strategy, DeepSpeedStrategy)
    if not fits:
        raise ValueError(
            f"stage '{name}': found micro_batches under {type(strategy).__name__}, which counts passes by itself; "
            "expected one device, DDP or FSDP2. Fix: lower the stage's batch_size, or share it among more processes."
        )
    if trainer.precision == "16-mixed":
        raise ValueError(
            f"stage '{name}': found micro_batches under 16-mixed, whose scaled losses they'd pass by; expected "
            "32-true or bf16-mixed. Fix: set trainer.precision."
        )
