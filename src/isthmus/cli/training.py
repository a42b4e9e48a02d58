"""``fit``, ``validate`` and ``test``: Lightning's command line over one model, one data module and the stages."""

from __future__ import annotations

import json
import logging
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import ActionYesNo
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]  # not in its __all__
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from isthmus.cli.companions import companions
from isthmus.cli.configs import (
    NamedConfigFile,
    as_read,
    at_home,
    changed,
    default_configs,
    given_configs,
    last_with,
    names_key,
)
from isthmus.cli.parsing.experts import add_experts, expert_paths
from isthmus.cli.parsing.parser import Parser
from isthmus.cli.quiet import hush
from isthmus.cli.runs.beginning import begin, is_restarted, meet_anew
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import Evaluation
from isthmus.hub.address import pinned
from isthmus.model import AnyToAny
from isthmus.model.relocation import place
from isthmus.paths import user_path
from isthmus.training import StageSwitch, TrainingModule
from isthmus.training.checkpoints.found import latest
from isthmus.training.run_record import RunRecord
from isthmus.training.running.callbacks import callbacks_of
from isthmus.training.running.profile import profiler_of
from isthmus.training.running.run_folder import set_aside_runs
from isthmus.writing import write_file

log = logging.getLogger(__name__)

MatmulPrecision = Literal["highest", "high", "medium"]

AUTO = "auto"
CHECKPOINT_WORDS = ("last", AUTO, "best", "hpc")
"""What ``--ckpt_path`` takes besides a path; ``last`` is the newest of the run's own folder, ``auto`` the same where it
has one, and a new run where it hasn't."""

BEGINS_ANEW = {
    "fit": "begin anew in a folder that holds a run, whose files are set aside as FOLDER/previous-N",
    "test": "answer anew where an evaluation has stored answers, which are set aside as evaluation/previous-N",
}

UNFINISHED, SIGNALLED = 3, 128
"""Exit codes of a run whose stages aren't all over: 3, or 128 and the number of the signal that ended it."""

# A modality may be the default of an argument that takes names: saved configs hold its name.
yaml.SafeDumper.add_multi_representer(StrEnum, lambda dumper, value: dumper.represent_str(value.value))


class RunParser(Parser, LightningArgumentParser):
    """Lightning's, which says a mistake in one message."""


class RunConfig(SaveConfigCallback):
    """Writes all that was configured into the run's folder: ``config.yaml`` of a training, ``test.yaml`` of a test."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """A measurement's is written at once; a training's when it is known that it can go on as it is configured."""
        if stage != "fit":
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes what is in force from the first step on, and gives it to the run's loggers."""
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")
            told = {name: value for name, value in self.config.as_dict().items() if not name.startswith("__")}
            settings = json.loads(json.dumps(told, default=str))
            for record in callbacks_of(trainer, RunRecord):
                record.configured(trainer, settings)
            for logger in trainer.loggers:
                logger.log_hyperparams(settings)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See Lightning. An older file is replaced: the folder holds one run."""
        assert trainer.state.fn is not None
        name = "config.yaml" if stage == "fit" else f"{trainer.state.fn.value}.yaml"
        config = self.config.clone()
        for said_once in ("overwrite", "experts", "experts_root"):  # the model's paths are those of the experts
            config.pop(said_once, None)
        text = self.parser.dump(config, skip_none=False)
        write_file(user_path(config.training.folder) / name, text.encode())


class Command(LightningCLI):
    """One model class, one data module class, and the stages as a callback that no config can drop.

    ``training.folder`` holds all that a run writes: logs, ``checkpoints/last.ckpt``, each stage's weights, and results.

    Attributes:
        given: the user's own configs and options.
        typed: the command as a user types it and what it does, for ``--help``, where it stands in the place of ``fit``.
    """

    typed: tuple[str, str] | None = None

    def __init__(self, args: list[str] | None = None) -> None:
        self.given = list(given_configs(sys.argv[1:] if args is None else args))
        defaults = default_configs(self.given)
        super().__init__(
            AnyToAny,
            ConversationDataModule,
            save_config_callback=RunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            parser_class=RunParser,
            parser_kwargs={name: {"default_config_files": defaults} for name in self.subcommands()},
            args=args,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """What can be run, and which of the Trainer's arguments aren't options: checkpoints load weights alone."""
        skipped = {"model", "datamodule", "weights_only"}
        loaders = {"train_dataloaders", "val_dataloaders"}
        return {"fit": skipped | loaders, "validate": skipped | {"dataloaders"}, "test": skipped | {"dataloaders"}}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose ``-c`` also looks under ``configs/``."""
        parser = self.parser_class(**kwargs)
        parser.add_argument(
            "-c", "--config", action=NamedConfigFile, help="a YAML file, also looked for under configs/; later ones win"
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The stages, under ``training``."""
        parser.add_lightning_class_args(StageSwitch, "training")
        parser.add_argument(
            "--float32_matmul_precision",
            type=MatmulPrecision,
            default="highest",
            help="how a GPU multiplies float32 matrices: highest, or in TF32 (high) or bfloat16 (medium) inside",
        )

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Lightning's; the help of a command that isn't ``fit`` itself tells of that command."""
        super()._add_subcommands(parser, **kwargs)
        if self.typed is not None:
            self._subcommand_parsers["fit"].prog, self._subcommand_parsers["fit"].description = self.typed

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Lightning's, and where experts lie; for ``fit`` and ``test`` also the option to begin anew."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        add_experts(parser)
        if subcommand in BEGINS_ANEW:
            parser.add_argument("--overwrite", action=ActionYesNo, default=False, help=BEGINS_ANEW[subcommand])
        return parser

    def _parse_ckpt_path(self) -> None:
        """Nothing: our checkpoints hold no configuration, and are read once, where damage is told."""

    def before_instantiate_classes(self) -> None:
        """Puts the home folder in the place of ``~``, places experts, and refuses a checkpoint that isn't there."""
        config = self.config[self.subcommand]
        place(config.model, expert_paths(config.experts), config.experts_root)
        torch.set_float32_matmul_precision(config.float32_matmul_precision)
        if config.seed_everything is not False:
            for part in ("model", "data"):  # initial values; orders and noise
                if last_with(self.given, "seed_everything") > last_with(self.given, part, "seed"):
                    config[part].seed = config.seed_everything
        # Not all of Lightning's loggers and callbacks know what ~ means; our own parts do.
        config.trainer = at_home(config.trainer)
        # What the run writes down names the commits that it uses, so that it can be repeated.
        config.model = changed(config.model, pinned)
        config.training.folder = user_path(config.training.folder)
        config.ckpt_path = path = at_home(config.ckpt_path)
        if path is not None and str(path) not in CHECKPOINT_WORDS and not Path(path).exists():
            raise ValueError(
                f"--ckpt_path {path}: found no file; expected a checkpoint to resume from, such as "
                "RUN/checkpoints/last.ckpt, or the word last. To start a stage from a finished one's weights use "
                "training.init_from."
            )

    def instantiate_classes(self) -> None:
        """Also tells the model how it was configured, so that its weights' folder can rebuild it."""
        self.whole, self.config = self.config, as_read(self.config, str(self.subcommand))
        super().instantiate_classes()
        dumped = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        self.model.configuration = dumped[self.subcommand]["model"]
        self.module = TrainingModule(self.model)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """A trainer that writes into the run's folder, unless its config says otherwise."""
        self.config = self.whole  # which the run's folder keeps
        config = self.config_init[self.subcommand]
        folder = str(config.training.folder)
        self.trainer_defaults = {"callbacks": companions(config.trainer)}
        if isinstance(config.trainer.profiler, str):
            kwargs["profiler"] = profiler_of(config.trainer.profiler, Path(folder))
        trainer = super().instantiate_trainer(default_root_dir=config.trainer.default_root_dir or folder, **kwargs)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(Path(folder, "checkpoints").absolute())
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Trains. A checkpoint is read as tensors and plain values: nothing in it can run code.

        Raises:
            SystemExit: with code 3 if stages of the run aren't over; 130 after Ctrl-C, 138 after SIGUSR1, 143 after
                SIGTERM.
        """
        (switch,) = callbacks_of(self.trainer, StageSwitch)
        if kwargs.get("ckpt_path") is None and is_restarted():
            kwargs["ckpt_path"] = AUTO
        goes_on = str(kwargs.get("ckpt_path")) == AUTO
        kwargs["ckpt_path"] = self._found(kwargs.get("ckpt_path"))
        switch.has_own_lora = any(names_key(each, "lora") for each in self.given)
        try:
            if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                if self.trainer.is_global_zero:
                    switch.lock.acquire()
                if kwargs.get("ckpt_path") is None and not _is_requeued(self.trainer):
                    begin(switch, bool(self.config.fit.overwrite), self.trainer.is_global_zero, goes_on)
            self.trainer.fit(weights_only=True, **self._given(kwargs))
        except (SIGTERMException, RuntimeError) as error:
            number = switch.breaking_off.signals.number or (signal.SIGTERM if self.trainer.received_sigterm else None)
            if number is None:  # with a signal, a data worker that had it too may be missed
                raise
            if switch.unfinished:
                raise SystemExit(SIGNALLED + number) from None
            if not isinstance(error, SIGTERMException):
                raise
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):  # Lightning makes an exit code 1 of it
                raise SystemExit(SIGNALLED + signal.SIGINT) from None
            raise
        finally:
            switch.lock.release()
        if switch.unfinished:
            number = switch.breaking_off.signals.number
            raise SystemExit(UNFINISHED if number is None else SIGNALLED + number)

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a Trainer's method is called with: the model in training, and the checkpoint's own path."""
        return arguments | {"model": self.module, "ckpt_path": self._found(arguments.get("ckpt_path"))}

    def _found(self, checkpoint: Any) -> Any:
        """What ``--ckpt_path last`` means: the newest checkpoint, or the newest whole one; other paths as they are.

        Raises:
            ValueError: there is none.
        """
        if str(checkpoint) not in ("last", AUTO):
            return checkpoint
        config = self.config[self.subcommand]
        savers = [each for each in self.trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        folders = [Path(each.dirpath) for each in savers if each.dirpath is not None]
        found = latest(folders)
        if not found and str(checkpoint) == AUTO:
            return None
        if not found:
            set_aside = set_aside_runs(user_path(config.training.folder))[:1]
            earlier = next(iter(latest(path / "checkpoints" for path in set_aside)), None)
            raise ValueError(
                f"--ckpt_path last: found no checkpoint in {', '.join(map(str, folders)) or 'a run that keeps none'}; "
                "expected one that this run has written. "
                + (f"An earlier run's newest is {earlier}. " if earlier else "")
                + f"Fix: begin the run without --ckpt_path{', or give that path' if earlier else ''}."
            )
        for switch in callbacks_of(self.trainer, StageSwitch):
            switch.checkpoints.fallbacks = found
        return str(found[0])

    def validate(self, **kwargs: Any) -> None:
        """Measures the loss on validation data."""
        self.trainer.validate(weights_only=True, **self._given(kwargs))

    def test(self, **kwargs: Any) -> None:
        """Answers the test data's prompts and measures the answers.

        Raises:
            ValueError: there is nothing to answer, or nothing that measures.
        """
        if not self.datamodule.test:
            raise ValueError(
                "data.test: found no set; expected one whose prompts are answered. Fix: name a set under data.test."
            )
        if not any(map(_measures, self.trainer.callbacks)):  # type: ignore[attr-defined]  # set by a connector
            raise ValueError(
                "trainer.callbacks: found none that measures answers; expected an evaluation. Fix: add one, as in "
                "trainer: {callbacks+: [{class_path: isthmus.evaluation.CaptionEvaluation}]} (docs/captions.md)."
            )
        for evaluation in callbacks_of(self.trainer, Evaluation):
            evaluation.overwrite = bool(self.config.test.overwrite)
        self.trainer.test(weights_only=True, **self._given(kwargs))


def _is_requeued(trainer: pl.Trainer) -> bool:
    """Whether SLURM has started this job again: Lightning then goes on from the checkpoint that it wrote for that."""
    return SLURMEnvironment.detect() and trainer._checkpoint_connector._hpc_resume_path is not None


def _measures(callback: pl.Callback) -> bool:
    """Whether a callback looks at what ``test`` gives: one of ours, or a user's own."""
    hooks = ("on_test_batch_end", "on_test_epoch_end", "on_test_end")
    looks = any(getattr(type(callback), hook) is not getattr(pl.Callback, hook) for hook in hooks)
    return looks and not type(callback).__module__.startswith(("pytorch_lightning.", "isthmus.training."))


def prepare_logging() -> None:
    """Shows the package's messages, once, whatever the number of processes."""
    logger = logging.getLogger("isthmus")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    # Every process of a distributed run would say the same.
    logger.setLevel(logging.INFO if getattr(rank_zero_only, "rank", None) in (None, 0) else logging.WARNING)
    hush()


def run(args: list[str] | None = None) -> None:
    """Runs a subcommand; ``args`` are the command line's if None."""
    prepare_logging()
    meet_anew()
    Command(args)
