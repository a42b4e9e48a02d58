"""The callback that enters a stage and moves on to the next. A stage alone and a curriculum are the same code.

A stage is one Lightning epoch. Everything random in a step is drawn from (seed, stage, step, rank), so that a run's
stages equal the same stages run apart, and a resumed run equals one that was never broken off.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DeepSpeedStrategy
from pytorch_lightning.trainer.states import TrainerFn

from isthmus.data.sampling.seeds import derive_seed
from isthmus.paths import user_path
from isthmus.training.averaging import KEY as AVERAGE
from isthmus.training.averaging import Average
from isthmus.training.checkpoints.run_checkpoints import RunCheckpoints
from isthmus.training.checkpoints.settings import CheckpointSettings
from isthmus.training.checks import check_run, warn_of_untrained
from isthmus.training.module import TrainingModule, training_module
from isthmus.training.objectives.reference import Reference
from isthmus.training.objectives.supervised import Supervised
from isthmus.training.provenance import provenance
from isthmus.training.reach import Reach
from isthmus.training.running.breaking_off import BreakingOff, finish_saving
from isthmus.training.running.callbacks import data_of, is_trial
from isthmus.training.running.ending import ended_early, forget_best, forget_early_stopping, learnt_batches
from isthmus.training.running.run_folder import RunLock
from isthmus.training.running.settings import KEY, Resumption, describe
from isthmus.training.stage import Stage
from isthmus.training.trainable import check_optimizer, describe_trained, set_trainable
from isthmus.training.wrapping import come_last, hide_frozen, rewrap

log = logging.getLogger(__name__)


class StageSwitch(pl.Callback):
    """Runs stages one after another.

    Args:
        stages: all that are known, by name.
        run: names of those to run, in order; all of them if None.
        folder: where each finished stage's weights are written, as ``folder/<stage>``.
        init_from: a stage's folder to start from, its weights only; the optimizer and the stage are new.
        checkpoints: how checkpoints are written.

    Attributes:
        over: how many of the run's stages are over (:mod:`isthmus.training.running.ending`).
        breaking_off: whether the run ends before its time, and why.
        average: of what the present stage trains, where its ``ema`` asks for one.
        lock: on the folder, as long as a run goes on.
        has_own_lora: whether LoRA is the user's own wish, and not only of the configs that are read before theirs.

    Raises:
        ValueError: nothing is to be run, or a name is unknown or comes twice.
    """

    def __init__(
        self,
        stages: dict[str, Stage],
        run: list[str] | None = None,
        folder: Path = Path("runs/isthmus"),
        init_from: Path | None = None,
        checkpoints: CheckpointSettings | None = None,
    ) -> None:
        names = list(stages) if run is None else list(run)
        if not names:
            raise ValueError("training: no stage is to be run; name one under training.run")
        for name in names:
            if name not in stages:
                raise ValueError(f"training.run: unknown stage '{name}'; known: {', '.join(stages) or 'none'}")
        if len(set(names)) < len(names):
            raise ValueError(f"training.run: found {', '.join(names)}; each stage can come once")
        self.stages = stages
        self.names = names
        self.folder = user_path(folder)
        self.init_from = None if init_from is None else user_path(init_from)
        self.checkpoints = RunCheckpoints(checkpoints)
        self.index = self.over = 0
        self.breaking_off = BreakingOff()
        self.lock = RunLock(self.folder)
        self.has_own_lora = True
        self._resumption = Resumption()
        self._resumed_at: int | None = None
        self._module: TrainingModule | None = None
        self._reach = Reach([])
        self.average: Average | None = None

    @property
    def name(self) -> str:
        """The present stage's."""
        return self.names[self.index]

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self.stages[self.name]

    @property
    def unfinished(self) -> list[str]:
        """The run's stages that aren't over."""
        return self.names[self.over :]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Builds the model, reads its starting weights and enters the first stage."""
        module = training_module(pl_module)
        model = module.model
        module.configure_model()
        self.checkpoints.writes = not is_trial(trainer)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO or is_trial(trainer):
            trainer.strategy.checkpoint_io = self.checkpoints
        if stage != "fit":
            module.stage = self.stages[self.names[-1]]
            return
        come_last(trainer, self)
        check_run(trainer, model, data_of(trainer), self.stages, self.names)
        if is_trial(trainer):  # a few batches of every stage, and nothing is written
            trainer.fit_loop.epoch_loop.max_steps = -1
            model.cache_settings = None
        else:
            self.lock.hold(trainer)
        if self.init_from is not None and trainer.ckpt_path is None:
            manifest = model.load(self.init_from, strict=False)
            absent = sorted(set(model.owned_state()) - set(manifest["components"]))
            new = f"; new: {', '.join(absent)}" if absent else ""
            log.info("started from %s (stage '%s')%s", self.init_from, manifest["stage"], new)
        warn_of_untrained(model, self.stages, self.names, self.has_own_lora)
        trainer.fit_loop.max_epochs = len(self.names)
        self.enter(trainer, module, 0)

    def enter(self, trainer: pl.Trainer, module: TrainingModule, index: int) -> None:
        """Sets all that a stage decides: what trains, the loss, the optimizer, the data, which experts stay."""
        self.index, self._module = index, module
        stage = self.stage
        model, objective = module.model, stage.learns_by
        counts = set_trainable(model, stage.trains, self.name, objective.dropout)
        self._reach = Reach(list(counts))
        self.average = None if stage.ema is None else Average(stage.ema)
        hide_frozen(module)
        mixture = data_of(trainer).set_stage(
            self.name, None if stage.data is None else dict(stage.data), stage.steps, stage.epochs, stage.batch_size
        )
        module.enter(stage, self.name, len(mixture))
        if model.output_side is not None and not any(each.makes(stage.losses) for each in (objective, Supervised())):
            model.output_side.release()
        divided = f" in {stage.micro_batches} micro-batches" if stage.micro_batches > 1 else ""
        steps = f"{len(mixture):,} optimizer steps, each on {mixture.batch_size} conversations{divided}"
        place, trained = f"({index + 1} of {len(self.names)})", describe_trained(model, counts)
        log.info("entered stage '%s' %s: %s; trains %s", self.name, place, steps, trained)

    def state_dict(self) -> dict[str, Any]:
        """The names of the run's stages, where it is among them, what has learnt, and the reference if there is one."""
        state: dict[str, Any] = {"names": self.names, "index": self.index, "reached": self._reach.reached()}
        reference = None if self._module is None else self._module.reference
        if reference is not None:
            state["reference"] = reference.state()
        return state

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what decides over the stage's steps, and the average of what it trains."""
        checkpoint[KEY] = self._settings(trainer, pl_module)
        if self.average is not None and (average := self.average.state(pl_module)) is not None:
            checkpoint[AVERAGE] = average

    def _settings(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        mixture = data_of(trainer).stage
        assert mixture is not None
        return describe(self.stage, training_module(pl_module).model, trainer, mixture.fingerprint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores the stage before the strategy is set up, so that the optimizer is built over the right parts."""
        if is_trial(trainer):
            raise ValueError(
                f"trainer.fast_dev_run: found it with --ckpt_path {trainer.ckpt_path}; expected one of them, as a "
                "trial run takes the first batches of each stage. Fix: leave --ckpt_path out."
            )
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn != TrainerFn.FITTING:
            return  # its weights are measured, whatever run they are of
        if state is None or state["names"] != self.names:
            found = "no stages" if state is None else ", ".join(state["names"])
            raise ValueError(
                f"checkpoint: it holds a run of {found}; this one runs {', '.join(self.names)}. Resume with "
                "the stages that it was started with, or begin a stage from its weights with training.init_from."
            )
        self._resumed_at = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        self.over = min(self._resumed_at, len(self.names))
        module = training_module(pl_module)
        self.enter(trainer, module, min(self._resumed_at, len(self.names) - 1))
        if self.index == state["index"]:
            self._reach.restore(state.get("reached", []))
            if "reference" in state:
                module.reference = Reference(state["reference"])
            if self.average is not None and AVERAGE in checkpoint:
                self.average.restore(checkpoint[AVERAGE])
        self._resumption.read(checkpoint, self.checkpoints.loaded or trainer.ckpt_path, self.name)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Holds a checkpoint's settings against the run's, before the optimizer takes over what is stored."""
        self._resumption.configured(trainer, self._settings(trainer, pl_module))
        self._resumption.compare()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Repairs the loops where a checkpoint was written at a stage's very last batch."""
        self.breaking_off.begin(trainer)
        self._resumption.compare()  # sharding strategies read their checkpoint after on_fit_start
        self._resumption.apply(trainer)
        fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
        if not (epoch.restarted_on_train_batch_end and epoch.batch_progress.is_last_batch):
            return
        # Lightning takes the next epoch for a new one only if it is no longer than the finished one; otherwise it would
        # begin it where that one ended, and on_train_epoch_end is never called for the finished stage.
        epoch.batch_progress.increment_completed()
        for progress in (epoch.batch_progress, epoch.scheduler_progress, epoch.automatic_optimization.optim_progress):
            progress.reset_on_run()
        epoch.reset_restart_stage()
        fit.reset_restart_stage()
        self._leave(trainer, training_module(pl_module), trainer.current_epoch - 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Asserts that the optimizer is the stage's."""
        held = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
        check_optimizer(training_module(pl_module).model, held, self.name)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Randomness as a pure function of where the run stands; a stage's first batch finds its reference."""
        module = training_module(pl_module)
        if batch_idx == 0:
            forget_best(trainer)
        if module.objective.compares and module.reference is None:
            module.reference = Reference.of(module.model)
        torch.manual_seed(derive_seed(data_of(trainer).seed, self.name, batch_idx, trainer.global_rank))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Looks at what the step's gradients have reached; not under DeepSpeed, nor in a trial."""
        if not isinstance(trainer.strategy, DeepSpeedStrategy) and not is_trial(trainer):
            self._reach.look(training_module(pl_module).model)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Takes a step's weights into their average, and ends the run where the user asks for it."""
        if self.average is not None:
            self.average.update(pl_module)
        if self.breaking_off.signals.is_ctrl_c:  # at once: Lightning would validate first
            trainer.should_stop, trainer.limit_val_batches = True, 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Within a training it sees the averaged weights, where there are such; by itself it is of a result."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._load_result(trainer, training_module(pl_module))
        if self.average is not None:
            self.average.swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training goes on with its own."""
        if self.average is not None:
            self.average.leave(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A measurement is of a result."""
        self._load_result(trainer, training_module(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A stage that is over leaves its weights, and the next is entered; otherwise the run ends here."""
        is_over = is_trial(trainer)
        if not is_over:
            learnt, length = self._progress(trainer)
            is_over = learnt >= length or ended_early(trainer)
            self.breaking_off.after_stage(trainer, is_over, self.index + 1 == len(self.names))
        if is_over:
            self._leave(trainer, training_module(pl_module), self.index)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Signals are as they were before the run."""
        self.breaking_off.signals.leave()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Waits for the last checkpoint, and says which stages aren't over."""
        finish_saving(trainer)
        if is_trial(trainer):
            log.info("a trial run of %s; nothing was written", ", ".join(self.names))
        else:
            self.breaking_off.tell(trainer, self.unfinished, self._at(trainer))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keeps what can be kept, and says which stages aren't over."""
        if self.average is not None:
            self.average.leave(pl_module)
        if not is_trial(trainer):
            self.breaking_off.after_exception(trainer, exception, self.unfinished, self._at(trainer))
        self.lock.release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The folder is free again."""
        self.lock.release()

    def _progress(self, trainer: pl.Trainer) -> tuple[int, int]:
        stage = data_of(trainer).stage
        return learnt_batches(trainer), 0 if stage is None else len(stage)

    def _at(self, trainer: pl.Trainer) -> str | None:
        return "{} of {} steps".format(*self._progress(trainer)) if self.over == self.index else None

    def _leave(self, trainer: pl.Trainer, module: TrainingModule, index: int) -> None:
        if self.average is not None:  # the stage's weights, and what the next one begins with
            self.average.swap(module)
            self.average = None
        if not is_trial(trainer):
            name, writes = self.names[index], trainer.is_global_zero
            self._reach.tell(trainer, module.model, name)
            data = provenance(data_of(trainer).sources, self.stages[name].data) if writes else None
            folder = module.model.save(self.folder / name, name, writes, data=data)
            log.info("stage '%s' is over; its weights are in %s", name, folder)
        self.over = index + 1
        if self.unfinished and self.breaking_off.why is None:
            forget_early_stopping(trainer)
            self.enter(trainer, module, index + 1)
            module.zero_grad(set_to_none=True)
            rewrap(trainer, module)

    def _load_result(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if trainer.ckpt_path is not None:  # its weights are in the model by now
            return
        validates = trainer.state.fn == TrainerFn.VALIDATING
        folder = self.init_from if validates and self.init_from else self.folder / self.names[-1]
        module.model.load(folder, strict=False)
        module.eval()
        log.info("measuring the weights in %s", folder)
