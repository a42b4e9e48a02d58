"""``isthmus data replay``: an LLM's own answers to plain prompts, kept as conversations to mix into tuning."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from isthmus.cli.parsing.experts import add_experts, expert_paths
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import checkpoint_path, user_path

if TYPE_CHECKING:
    from isthmus.backbones.base import LanguageModel
    from isthmus.inference.replay import ReplayReport

COUNT = 3000


def parser() -> Parser:
    """The command's options."""
    made = Parser(description="Records an LLM's own answers to plain prompts: JSON lines of conversations.")
    made.add_argument("out", type=user_path, help="the file of conversations, such as replay.jsonl")
    made.add_argument("--checkpoint", type=str, help="the LLM: a folder, hf://org/name or a .gguf; or")
    made.add_argument("--from_config", type=str, help="a config, whose backbone answers without its LoRA; or")
    made.add_argument("--model", type=user_path, help="a trained model's folder, whose LLM answers without its LoRA")
    made.add_argument("--allow", action="append", default=[], help="a package of yours that --model's folder may name")
    add_experts(made)
    made.add_argument("--prompts", type=user_path, help="a file of yours, one prompt a line, or JSON lines of prompts")
    made.add_argument("--count", type=int, help=f"of prompts; {COUNT} of the built-in set, or all of --prompts")
    made.add_argument(
        "--max_new_tokens", type=int, default=64, help="of an answer; a cut one ends with its last sentence"
    )
    made.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest word")
    made.add_argument("--top_p", type=float, default=1.0, help="share of the likeliest words that is sampled from")
    made.add_argument("--seed", type=int, default=0, help="of the choice of prompts, and of sampled words")
    made.add_argument("--batch_size", type=int, default=32, help="prompts that are answered together")
    made.add_argument("--dtype", type=str, help="of --checkpoint's weights, such as bfloat16; its own where not given")
    made.add_argument("--chat_template", type=str, help="instead of --checkpoint's own: a name or a .jinja file")
    made.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    made.add_argument("--overwrite", action="store_true", help="replace a file that is there already")
    made.add_argument("--json", action="store_true", help="an object instead of text")
    return made


def run(options: Namespace) -> None:
    """Answers, writes and prints. A run that is broken off goes on when the command is given again.

    Raises:
        ValueError: no LLM or several, prompts that can't be read, a file that is there, or see
            :func:`isthmus.inference.replay.record_replay`.
    """
    from isthmus.cli.quiet import hush
    from isthmus.data.plain import built_in_prompts, read_prompts
    from isthmus.inference.replay import ReplaySettings, record_replay

    hush()
    if options.out.exists() and not options.overwrite:
        raise ValueError(f"{options.out}: found a file; expected none. Fix: choose another name, or add --overwrite.")
    if options.prompts is None:
        prompts = built_in_prompts(COUNT if options.count is None else options.count, options.seed)
    else:
        prompts = read_prompts(options.prompts)[: options.count]
    settings = ReplaySettings(
        options.max_new_tokens, options.temperature, options.top_p, options.seed, options.batch_size
    )
    report = record_replay(_language_model(options), prompts, options.out, settings, _bar)
    print(json.dumps(asdict(report), indent=2) if options.json else told(report, options.out))


def told(report: ReplayReport, out: Path) -> str:
    """The report as text."""

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"

    lines = [
        f"{out}: {report.kept} of {report.prompts} answers kept",
        f"kept: {listed(report.by_kind)}",
        f"left out: {listed(report.rejected)}",
    ]
    if report.answered:
        rate = report.tokens / max(report.seconds, 1e-9)
        lines.append(f"{report.answered} answered in {report.seconds:.0f} s, {rate:.0f} tokens a second")
    return "\n".join(lines)


def _language_model(options: Namespace) -> LanguageModel:
    given = [name for name in ("checkpoint", "from_config", "model") if options[name] is not None]
    if len(given) != 1:
        raise ValueError(
            f"replay: found {' and '.join(f'--{name}' for name in given) or 'no LLM'}; expected one of --checkpoint, "
            "--from_config and --model. Fix: name one LLM."
        )
    for name in ("dtype", "chat_template"):
        if options[name] is not None and options.checkpoint is None:
            raise ValueError(
                f"--{name}: found it without --checkpoint; configs and models have their own. Fix: leave it out."
            )
    from isthmus.inference.pipeline import chosen_device

    device = chosen_device(options.device)
    if options.model is not None:
        from isthmus.model import AnyToAny

        experts = expert_paths(options.experts)
        model = AnyToAny.from_checkpoint(options.model, device, options.allow, experts, options.experts_root)
        return model.backbone.language_model
    made = _of_checkpoint(options) if options.from_config is None else _of_config(options.from_config)
    made.materialize()
    return made.to(device)


def _of_checkpoint(options: Namespace) -> LanguageModel:
    from isthmus.backbones import CausalBackbone, EncoderDecoderBackbone
    from isthmus.backbones.checkpoint import read_config

    checkpoint = checkpoint_path(options.checkpoint)
    is_encoder_decoder = read_config(checkpoint).is_encoder_decoder
    make: Any = EncoderDecoderBackbone if is_encoder_decoder else CausalBackbone
    made: LanguageModel = make(checkpoint, dtype=options.dtype, chat_template=options.chat_template)
    return made


def _of_config(config: str) -> LanguageModel:
    from isthmus.cli.training import Command

    class Composed(Command):
        """Composes what a config describes; of the data nothing is read."""

        def before_instantiate_classes(self) -> None:
            super().before_instantiate_classes()
            own = self.config[self.subcommand]
            own.data.sources, own.data.validation, own.data.test = {}, {}, {}
            own.trainer.callbacks, own.trainer.logger = [], False

        def fit(self, **_: Any) -> None:
            """Nothing: the model is all that is wanted."""

    composed: Any = Composed(["fit", "-c", config])
    composed.model.backbone.language_model.lora = None  # nothing is trained, and adapters begin by changing no answer
    language_model: LanguageModel = composed.model.backbone.language_model
    return language_model


def _bar(starts: Iterable[int]) -> Iterable[int]:
    from tqdm import tqdm

    shown: Iterable[int] = tqdm(starts, desc="answers", unit="batch")
    return shown
