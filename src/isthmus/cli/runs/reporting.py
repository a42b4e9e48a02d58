"""``isthmus report``: the report of an evaluation that is over, written anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import Namespace

from isthmus.cli.parsing.parser import Parser
from isthmus.evaluation.comparing.stored import FOLDER, METRICS, read_json
from isthmus.paths import user_path

if TYPE_CHECKING:
    from isthmus.data.module import ConversationDataModule

CONFIGS = ("evaluate.yaml", "test.yaml")
"""What a measurement leaves beside its results: the test sets that were answered."""


def parser() -> Parser:
    """The command's options."""
    made = Parser(description="Writes report.html and report.md of an evaluation: figures, protocol and answers.")
    made.add_argument("run", type=user_path, help="a run's folder, or its evaluation folder")
    made.add_argument("--samples", type=int, default=6, help="answers of each group: drawn at random, best and worst")
    made.add_argument(
        "-c",
        "--config",
        type=user_path,
        help="names the test sets under data.test; the run's evaluate.yaml or test.yaml",
    )
    return made


def run(options: Namespace) -> None:
    """Writes it, and prints where.

    Raises:
        ValueError: the folder has no figures, or no config names what was answered.
    """
    folder = options.run if (options.run / METRICS).is_file() else options.run / FOLDER
    if not (folder / METRICS).is_file():
        raise ValueError(
            f"{options.run}: found no {FOLDER}/{METRICS}; expected a run that isthmus.evaluation.Evaluation has "
            "measured. Fix: measure it with isthmus evaluate."
        )
    if options.samples < 1:
        raise ValueError(f"--samples: found {options.samples}; expected at least 1. Fix: raise it.")
    configs = [folder.parent / name for name in CONFIGS] if options.config is None else [options.config]
    config = next((path for path in configs if path.is_file()), None)
    if config is None:
        raise ValueError(
            f"{folder.parent}: found neither {' nor '.join(CONFIGS)}; expected the test sets that were answered. Fix: "
            "give a config that names them under data.test with -c."
        )
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
        raise ValueError(f"{config}: found no data; expected test sets under data.test. Fix: give another with -c.")
    _write(folder, _opened(content["data"]), options.samples)


def _opened(data: dict[str, Any]) -> ConversationDataModule:
    """The data module of a config, with its test sets alone."""
    from isthmus.cli.training import RunParser
    from isthmus.data.module import ConversationDataModule

    made = RunParser()
    made.add_lightning_class_args(ConversationDataModule, "data")
    wanted = {"data": data | {"sources": {}, "validation": None}}
    module: ConversationDataModule = made.instantiate_classes(made.parse_object(wanted)).data
    return module


def _write(folder: Path, data: ConversationDataModule, samples: int) -> None:
    from isthmus.evaluation.predictions.answers import stored_answers
    from isthmus.evaluation.predictions.measuring import shown_answers
    from isthmus.evaluation.report.evaluation_report import write_evaluation_report

    content = read_json(folder / METRICS)
    predictions = folder / (content.get("predictions") or "predictions")  # a relative one lies in the folder itself
    answers = shown_answers(stored_answers(predictions, data.test))
    for path in write_evaluation_report(folder, answers, samples):
        print(path)
