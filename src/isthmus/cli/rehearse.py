"""``isthmus rehearse``: every stage and an answer of a config, without its weights and without a GPU."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, Namespace

from isthmus.cli.training import Command, prepare_logging
from isthmus.hub.address import is_address
from isthmus.hub.snapshot import settings_alone
from isthmus.training import StageSwitch
from isthmus.training.rehearsal import rehearse
from isthmus.training.rehearsal.published_large import LARGE
from isthmus.training.rehearsal.published_modern import MODERN
from isthmus.training.rehearsal.published_nextgpt import NEXTGPT
from isthmus.training.running.callbacks import callbacks_of

PUBLISHED = NEXTGPT | MODERN | LARGE
"""Checkpoints whose configuration files are known, by the folder under ``checkpoints/`` that holds them."""
WORDS = 10


class Rehearsal(Command):
    """Parses what ``fit`` parses, and rehearses it. Of the data nothing is read."""

    typed = "isthmus rehearse", "Tries every stage of a config and an answer at full size, without weights or a GPU."

    def __init__(self, args: list[str], folder: Path) -> None:
        self.folder = folder
        self.stand_ins: list[str] = []
        super().__init__(args)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> Any:
        """``fit``'s, and the command's own options."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_argument("--words", type=int, default=WORDS, help="of a question and of an answer, each")
            self.add_options(parser)
        return parser

    def add_options(self, parser: Any) -> None:
        """The options that aren't ``fit``'s."""
        parser.add_argument("--json", action=ActionYesNo, default=False, help="one object instead of tables")

    def before_instantiate_classes(self) -> None:
        """Leaves out what isn't rehearsed, and lets known configurations stand in for missing checkpoints."""
        super().before_instantiate_classes()
        config = self.config[self.subcommand]
        config.data.sources, config.data.validation, config.data.test, config.data.num_workers = {}, {}, {}, 0
        config.training.init_from = config.ckpt_path = config.model.cache = None
        # Other stages may name rewards whose files aren't here.
        run, stages = set(config.training.run or []), config.training.stages
        if run and run <= set(stages):  # the switch refuses an unknown name, and lists those that are known
            config.training.stages = {name: own for name, own in stages.items() if name in run}
        trainer = config.trainer
        trainer.accelerator, trainer.devices, trainer.num_nodes, trainer.strategy = "cpu", 1, 1, "auto"
        trainer.callbacks, trainer.logger, trainer.profiler, trainer.plugins = [], False, None, None
        self._stand_in(config.model)

    def _stand_in(self, value: Any) -> None:
        """Walks through what is configured."""
        if isinstance(value, Namespace):
            for name, own in list(vars(value).items()):
                if name == "checkpoint" and own is not None and not is_address(own) and not Path(own).exists():
                    setattr(value, name, self._published(Path(own)))
                elif name == "cross_entropy" and own == "liger":  # its kernel, and the library, need a GPU
                    setattr(value, name, "torch")
                else:
                    self._stand_in(own)
        elif isinstance(value, dict):
            self._stand_in_all(value.values())
        elif isinstance(value, list):
            self._stand_in_all(value)

    def _stand_in_all(self, values: Any) -> None:
        for own in values:
            self._stand_in(own)

    def _published(self, checkpoint: Path) -> str:
        """The path in a folder of configuration files for a checkpoint that isn't there.

        Raises:
            ValueError: none is known.
        """
        for at, name in enumerate(checkpoint.parts):
            if name in PUBLISHED:
                folder = self.folder / name
                if not folder.exists():
                    PUBLISHED[name](folder)
                    self.stand_ins.append(str(Path(*checkpoint.parts[: at + 1])))
                return str(Path(folder, *checkpoint.parts[at + 1 :]))
        raise ValueError(
            f"{checkpoint}: found no such checkpoint, and no published configuration of that name is known here (those "
            f"are {', '.join(PUBLISHED)}); expected its configuration files. Fix: fetch them without weights, as by "
            "hf download NAME --include '*.json' 'tokenizer*' --local-dir FOLDER, and name that folder; of hf://NAME "
            "they are fetched by themselves."
        )

    def notes(self) -> list[str]:
        """What stood in for what."""
        if not self.stand_ins:
            return []
        return [
            f"published configurations stood in for {', '.join(self.stand_ins)}, which aren't there; their tokenizers "
            "count bytes, so rows are longer than those of the real ones"
        ]

    def fit(self, **_: Any) -> None:
        """Rehearses and prints.

        Raises:
            ValueError: something doesn't fit.
        """
        (switch,) = callbacks_of(self.trainer, StageSwitch)
        config = self.config[self.subcommand]
        report = rehearse(self.model, switch, self.trainer, self.datamodule.batch_size, config.words)
        report.notes += self.notes()
        print(report.as_json() if config.json else report.as_text())


def run(args: list[str]) -> None:
    """Runs the command; ``args`` are those of ``fit``, ``--json`` and ``--words``."""
    prepare_logging()
    for name in ("isthmus", "pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, settings_alone():
        Rehearsal(["fit", *args], Path(folder))
