"""The options by which a command opens a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from isthmus.cli.parsing.experts import add_experts, expert_paths
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path


def model_parser(says: str, several: bool = False) -> Parser:
    """A parser of a command that does as it says, with a trained model, or with several by name."""
    parser = Parser(description=says)
    folder = "a trained stage's folder, such as runs/curriculum/instruction_tuning"
    if several:
        more = f"{folder}; repeatable as NAME=FOLDER, for models over the same experts, which are loaded once"
        parser.add_argument("--model", type=str, action="append", required=True, help=more)
    else:
        parser.add_argument("--model", type=user_path, required=True, help=folder)
    parser.add_argument("--seed", type=int, default=0, help="of sampled text and of media")
    parser.add_argument("--temperature", type=float, default=0.0, help="of sampled text; 0 takes the likeliest word")
    parser.add_argument("--top_p", type=float, default=1.0, help="share of the likeliest words that is sampled from")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="of an answer")
    parser.add_argument(
        "--context",
        type=int,
        help="tokens of a conversation and its answer together; as many as the LLM has if not given",
    )
    parser.add_argument("--num_inference_steps", type=int, help="of the generators; each one's own where not given")
    parser.add_argument("--guidance_scale", type=float, help="of the generators; each one's own where not given")
    parser.add_argument(
        "--allow", action="append", default=[], help="a package of yours whose classes the folder may name; repeatable"
    )
    add_experts(parser)
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser


def open_pipeline(options: Namespace, folder: Path | None = None) -> Any:
    """The :class:`~isthmus.inference.pipeline.Pipeline` that these options name, or that of another folder."""
    from isthmus.backbones.base import Sampling
    from isthmus.cli.quiet import hush
    from isthmus.inference.pipeline import Pipeline

    hush()
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p, options.seed, options.context)
    return Pipeline.open(
        folder or options.model,
        options.device,
        sampling,
        options.num_inference_steps,
        options.guidance_scale,
        options.allow,
        expert_paths(options.experts),
        options.experts_root,
    )
