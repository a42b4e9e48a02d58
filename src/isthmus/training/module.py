"""What a Trainer runs: a model at a stage, whose objective takes its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as distributed
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from isthmus.cache.frozen import FrozenCache
from isthmus.cache.states import StateCache
from isthmus.data.batching.collate import Collator
from isthmus.layout import on_device
from isthmus.model import AnyToAny, Reply
from isthmus.training.averaging import KEY as AVERAGE
from isthmus.training.engines import Sharded
from isthmus.training.engines.units import gathered, reshard
from isthmus.training.objectives.base import Counted, Learner, Objective, Outcome, mean_of
from isthmus.training.objectives.reference import Reference
from isthmus.training.objectives.supervised import Supervised
from isthmus.training.objectives.terms import LossWeights
from isthmus.training.parameter_groups import grouped, plan_groups
from isthmus.training.stage import Stage
from isthmus.training.standardising import lacking
from isthmus.training.touching import touched
from isthmus.training.wrapping import hide_frozen
from isthmus.types import Batch, Modality

SHOWN = ("loss", "text_accuracy", "preference_accuracy", "reward")
"""What a progress bar shows of a step's figures."""


class TrainingModule(pl.LightningModule):
    """A model in training: ``trainer.fit(TrainingModule(model), data)``, beside a stage switch among the callbacks.

    Args:
        model: that learns.
        stage: at which; a stage switch enters one.

    Attributes:
        name: the stage's.
        length: of the stage, in optimizer steps; its learning rate follows no schedule if None.
        reference: the model as the stage began, where its objective compares with it.
        known: test batch and its number -> its answers, where an earlier run has them all; they aren't generated then.
        before_waiting: see :class:`~isthmus.training.objectives.base.Learner`.
    """

    def __init__(self, model: AnyToAny, stage: Stage | None = None) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        self.name = "unnamed"
        self.length: int | None = None
        self.reference: Reference | None = None
        self.known: Callable[[Batch, int], Sequence[Reply] | None] | None = None
        self.before_waiting: Callable[[], None] | None = None
        self._cache: FrozenCache | None = None
        self._is_built = False
        self._lacking: list[Modality] | None = None
        self._counted: dict[str, Counted] = {}
        self._tested = ExitStack()
        self.strict_loading = False  # frozen tensors are in no checkpoint, and of what is, load_state_dict misses none
        self.register_load_state_dict_pre_hook(with_model_prefix)  # type: ignore[no-untyped-call]  # torch has no types for it

    def enter(self, stage: Stage, name: str, length: int) -> None:
        """The module at another stage. What trains is :func:`~isthmus.training.trainable.set_trainable`'s."""
        self.stage, self.name, self.length, self.reference = stage, name, length, None
        self._lacking = None

    @property
    def objective(self) -> Objective:
        """What the stage learns by."""
        return Supervised() if self.stage is None else self.stage.learns_by

    @property
    def weights(self) -> LossWeights:
        """Of the supervised losses: the stage's, those of validation, and of what an objective mixes in."""
        return LossWeights() if self.stage is None else self.stage.losses

    def learner(self, divided: bool = True) -> Learner:
        """The model at its stage, as an objective sees it."""
        parts = self.stage.micro_batches if self.stage is not None and divided else 1
        world = 1 if self._trainer is None else self.trainer.world_size
        return Learner(self.model, self.weights, parts, world, self.reference, before_waiting=self.before_waiting)

    def configure_model(self) -> None:
        """Builds the model, once; in shards where the strategy is :class:`~isthmus.training.engines.Sharded`."""
        strategy = None if self._trainer is None else self.trainer.strategy
        if not isinstance(strategy, Sharded):
            self.model.configure_model()
        elif not self._is_built:
            strategy.build(self.model)
        self._is_built = True

    def setup(self, stage: str) -> None:
        """Before the strategy wraps the module: by now processes may have loaded unlike experts."""
        hide_frozen(self)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The stage's loss over the global batch, with a gradient for all that trains."""
        # The device is asked ever more rarely, as a modality may never come.
        if self._lacking is None or (self._lacking and batch_idx.bit_count() == 1):
            self._lacking = lacking(self.model.output_side)
        learner = self.learner()
        learner.lacking = self._lacking
        outcome = self.objective.step(learner, batch)
        self._log(outcome, "train", sum(map(len, batch.pieces)))
        return touched(outcome.loss, [parameter for parameter in self.parameters() if parameter.requires_grad])

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The supervised loss on validation data.

        Every process logs its part of the global batch's means, with the weight of the conversations that count in the
        global batch. One that has only repeated conversations, which pad its batch or stand for bad ones, takes part
        and adds nothing; where no process has others, nothing is logged.
        """
        learner = self.learner(divided=False)
        counting = sum(not own.get("repeated") for own in batch.details) if batch.details else len(batch)
        learner.counts = counting > 0
        outcome = Supervised().step(learner, batch)
        if not learner.counts:
            outcome = Outcome(outcome.loss * 0, {name: value * 0 for name, value in outcome.shared.items()})
        size = counting if learner.world == 1 else int(learner.over_processes([counting])())
        if size:
            self._log(outcome, "validation", size)
        return outcome.loss

    def on_validation_end(self) -> None:
        """What was gathered to validate isn't taken for the shards that learn."""
        reshard(self)

    def on_test_start(self) -> None:
        """A sharded model is whole for as long as it answers: processes' answers are of unlike number and length."""
        self._tested.enter_context(gathered(self.model))

    def on_test_end(self) -> None:
        """Each process holds its shards again."""
        self._tested.close()

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Answers to prompts, a list of :class:`~isthmus.model.reply.Reply`, for an evaluation callback to judge."""
        if self.known is not None and (replies := self.known(batch, batch_idx)) is not None:
            return replies
        seeds = [int(details.get("seed", row)) % 2**31 for row, details in enumerate(batch.details)]
        return self.model.answer(batch, seeds=seeds)

    def configure_optimizers(self) -> Any:
        """The stage's optimizer over what the stage trains, and its schedule.

        Raises:
            ValueError: there is no stage.
        """
        stage = self.stage
        if stage is None:
            raise ValueError("this model has no stage; expected one before training. Add the StageSwitch callback.")
        planned = plan_groups(self.model, stage.trains, stage.groups, self.name)
        optimizer = grouped(self.model, stage.optimizer, planned, self.name)
        if self.length is None:
            return optimizer
        scheduler = stage.scheduler(self.length)(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips gradients as the Trainer says, those of a fused optimizer too where no loss scaler is at work.

        Lightning refuses a fused optimizer under any mixed precision, because with a scaler the optimizer itself
        divides the gradients by the loss's scale, which is later than the clipping. bf16-mixed has no scaler.
        """
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is None:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
            Precision.clip_gradients(precision, optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def collator(self, split: str) -> Collator:
        """What makes the stage's batches. Test batches are prompts, in the LLM's context."""
        if split == "test":
            return self.model.prompt_collator()
        objective = self.objective if split == "train" else Supervised()
        cache, side = self.cache(), self.model.input_side
        return self.model.collator(
            objective.prepares(self.weights),
            objective.collator,
            cached=None if cache is None or side is None else side.cached(),
            micro_batches=self.learner(split == "train").micro_batches,
            states=self._known_states() if split == "train" else None,
        )

    def _known_states(self) -> StateCache | None:
        """Where S is kept from epoch to epoch, in a stage that wants nothing else of the LLM and doesn't change it.

        A sharded LLM is run by all processes together, whatever one of them knows.
        """
        language_model, cache = self.model.backbone.language_model, self.cache()
        is_still = not any(own.requires_grad for own in self.model.backbone.parameters())
        is_asked = isinstance(self.objective, Supervised) and self.weights.is_drawing_alone
        if cache is None or not (is_still and is_asked) or isinstance(self.model, FSDPModule):
            return None
        return cache.states(language_model)

    def cache(self) -> FrozenCache | None:
        """What training keeps of frozen parts; its folder is made when it is first asked for."""
        if self.model.cache_settings is None:
            return None
        if self._cache is None:
            self._cache = FrozenCache(self.model.cache_settings)
            for side in (self.model.input_side, self.model.output_side):
                if side is not None:
                    side.cache = self._cache
        self._cache.precision = "32-true" if self._trainer is None else str(self.trainer.precision)
        return self._cache

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Measures a checkpoint by its averaged weights, where its stage has an average; training goes on from both."""
        averaged = checkpoint.get(AVERAGE)
        if averaged is not None and self.trainer.state.fn != TrainerFn.FITTING:
            checkpoint["state_dict"] |= averaged["tensors"]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch has it; all that is trained has to be there, ``strict`` or not, or nothing is copied."""
        self.model.check_loaded(state_dict, True, "model.")
        return super().load_state_dict(state_dict, strict, assign)

    def on_validation_epoch_start(self) -> None:
        """Counts anew."""
        self._counted = {}

    def on_validation_epoch_end(self) -> None:
        """Logs what was counted, over all processes and batches; of what none has met, nothing."""
        for name, own in self._over_processes(Supervised().counts(self.model), self._counted).items():
            if own[1] > 0:
                self.log(f"validation/{name}", mean_of(own))

    def _log(self, outcome: Outcome, split: str, size: int) -> None:
        """Logs a step's figures, over all processes in training; those that are counted, if this one has them."""
        trains, world = split == "train", self.trainer.world_size
        figures = {name: value.detach().float() for name, value in (outcome.shared | outcome.own).items()}
        counted: dict[str, Counted] = {name: (own.detach().float(), n) for name, (own, n) in outcome.counted.items()}
        if trains:
            means: dict[str, Counted] = {name: (figures[name], 1) for name in sorted(outcome.shared) if world > 1}
            found = self._over_processes([*means, *self.objective.counts(self.model)], means | counted)
            figures |= {name: mean_of(found[name]) for name in (*means, *counted)}
        else:
            for name, (total, count) in counted.items():
                before = self._counted.get(name, (0, 0))
                self._counted[name] = (total + before[0], count + before[1])
        for name, value in figures.items():
            self.log(
                f"{split}/{name}",
                value,
                batch_size=size,
                prog_bar=name in SHOWN,
                sync_dist=world > 1 and not trains and name in outcome.shared,
                on_step=trains,
                on_epoch=not trains,
            )

    def _over_processes(self, names: Sequence[str], counted: dict[str, Counted]) -> dict[str, Counted]:
        """Adds up over processes, all at once: Lightning's own reductions take a barrier each.

        Args:
            names: the same, in the same order, in every process.
            counted: of this process, by name; it may lack some.
        """
        if self.trainer.world_size == 1:
            return counted
        if not names:  # a model of words alone counts nothing
            return {}
        pairs = [own for name in names for own in counted.get(name, (0, 0))]
        numbers = on_device([own for own in pairs if isinstance(own, int)], self.device, torch.float32)
        moved = iter(numbers.unbind())  # in one copy
        sums = torch.stack([next(moved) if isinstance(own, int) else own.to(numbers) for own in pairs])
        distributed.all_reduce(sums)
        return {name: (own[0], own[1]) for name, own in zip(names, sums.view(-1, 2), strict=True)}


def training_module(module: nn.Module) -> TrainingModule:
    """What a Trainer runs, as this package's.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(module, TrainingModule):
        raise ValueError(
            f"trainer: found a {type(module).__name__}; expected a model in training. Fix: "
            "trainer.fit(isthmus.training.TrainingModule(model), data)."
        )
    return module


def with_model_prefix(_module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A checkpoint of an earlier version held the model's own state, under ``part:name``."""
    for key in [key for key in state if ":" in key and not key.startswith(f"{prefix}model.")]:
        state[f"{prefix}model.{key.removeprefix(prefix)}"] = state.pop(key)
