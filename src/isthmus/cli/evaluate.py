"""``isthmus evaluate``: a saved model, or stored answers, measured on the test sets of a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ActionYesNo, Namespace
from pytorch_lightning.utilities import rank_zero_only

from isthmus.cli.brought import bring_model
from isthmus.cli.configs import NamedConfigFile, at_home
from isthmus.cli.parsing.experts import add_experts, expert_paths
from isthmus.cli.training import RunParser, prepare_logging
from isthmus.data.module import ConversationDataModule
from isthmus.evaluation import Evaluation
from isthmus.evaluation.predictions.recomputing import measure_stored
from isthmus.model import AnyToAny
from isthmus.paths import user_path
from isthmus.training import StageProgressBar, TrainingModule
from isthmus.writing import write_file

CONFIG = "evaluate.yaml"
"""All that was configured, in the folder of the results."""
SAMPLING = ("max_new_tokens", "temperature", "top_p")


def parser() -> RunParser:
    """The command's options; a config has the sets under ``data.test`` and the metrics under ``trainer.callbacks``."""
    made = RunParser(
        prog="isthmus evaluate",
        description="Measures a saved model on test sets, or stored answers to them, without a training config.",
    )
    made.add_argument(
        "-c", "--config", action=NamedConfigFile, help="test sets and metrics, such as eval/NAME.yaml; later ones win"
    )
    made.add_argument("--model", type=str, help="a trained stage's folder, whose answers are measured")
    made.add_argument(
        "--predictions", type=str, help="a folder of stored answers (*.jsonl), measured without loading a model"
    )
    made.add_argument(
        "--out", type=str, required=True, help="results go into OUT/evaluation; answers too, with --model"
    )
    says = "answer anew in a folder that holds answers, which are set aside as OUT/evaluation/previous-N"
    made.add_argument("--overwrite", action=ActionYesNo, default=False, help=says)
    made.add_argument("--max_new_tokens", type=int, help="of an answer; as the model has it where not given")
    made.add_argument("--temperature", type=float, help="of sampled text; as the model has it where not given")
    made.add_argument("--top_p", type=float, help="share of the likeliest words that is sampled from; likewise")
    made.add_argument(
        "--allow", action="append", default=[], help="a package of yours whose classes the folder may name; repeatable"
    )
    add_experts(made)
    made.add_lightning_class_args(ConversationDataModule, "data")
    made.add_lightning_class_args(pl.Trainer, "trainer")
    made.set_defaults({"data.sources": {}, "data.num_workers": 1, "trainer.callbacks": []})
    return made


def run(args: Sequence[str]) -> None:
    """Measures, prints the figures and writes them.

    Raises:
        ValueError: there is no model and no stored answer, or both; no test set, or no metric.
    """
    prepare_logging()
    bring_model(args)
    made = parser()
    options = made.parse_args(list(args))
    if (options.model is None) == (options.predictions is None):
        found = "neither" if options.model is None else "both"
        raise ValueError(
            f"isthmus evaluate: found {found} of --model and --predictions; expected one of them. Fix: give --model to "
            "answer and measure, --predictions to measure what is answered already."
        )
    if options.predictions is not None:
        _refuse_answering(options)
    options.trainer = at_home(options.trainer)
    objects = made.instantiate_classes(options)
    data, callbacks = objects.data, list(objects.trainer.callbacks or [])
    evaluations = [callback for callback in callbacks if isinstance(callback, Evaluation)]
    if not data.test or not evaluations:
        absent = "set under data.test" if not data.test else "isthmus.evaluation.Evaluation among trainer.callbacks"
        raise ValueError(
            f"isthmus evaluate: found no {absent}; expected test sets and metrics. Fix: give -c eval/NAME.yaml, or a "
            "config of your own (docs/evaluation.md)."
        )
    out = user_path(options.out)
    is_first = getattr(rank_zero_only, "rank", None) in (None, 0)  # a launcher starts the command for each process
    written = made.dump(options).encode()
    if options.predictions is None:
        for evaluation in evaluations:
            evaluation.overwrite = options.overwrite
        _answer_and_measure(options, objects, callbacks, out)
    elif is_first:  # the others belong to no group with which they could share the work
        measure_stored(evaluations, data.test, user_path(options.predictions), out)
    if is_first:  # at the end: what was refused leaves the file of the figures that are there
        write_file(out / CONFIG, written)


def _refuse_answering(options: Namespace) -> None:
    """Refuses options that say how to answer, where answers are stored already.

    Raises:
        ValueError: there is one.
    """
    given = [name for name in SAMPLING if options[name] is not None] + ["overwrite"] * options.overwrite
    if given:
        raise ValueError(
            f"isthmus evaluate: found --{given[0]} beside --predictions; expected it beside --model alone, since it "
            "says how to answer. Fix: leave it out, or answer anew with --model."
        )


def _answer_and_measure(options: Namespace, objects: Any, callbacks: list[pl.Callback], out: Path) -> None:
    model = AnyToAny.from_checkpoint(
        user_path(options.model), "cpu", options.allow, expert_paths(options.experts), options.experts_root
    )
    given = {name: options[name] for name in SAMPLING if options[name] is not None}
    model.sampling = replace(model.sampling, **given)
    settings = vars(objects.trainer) | {
        "callbacks": [*callbacks, StageProgressBar()],
        "default_root_dir": str(out),
        "logger": objects.trainer.logger or False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    pl.Trainer(**settings).test(TrainingModule(model), datamodule=objects.data, verbose=False)
