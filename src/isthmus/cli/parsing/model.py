"""The options by which a command opens a trained model."""

from __future__ import annotations

from collections.abc import Mapping
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
    says = "generators whose weights are on the GPU at once, the others wait in host memory; all where not given"
    parser.add_argument("--resident_generators", type=int, help=says)
    return parser


def open_pipeline(options: Namespace) -> Any:
    """The :class:`~isthmus.inference.pipeline.Pipeline` that these options name. See :func:`open_pipelines`."""
    return open_pipelines(options, {"": options.model})[""]


def open_pipelines(options: Namespace, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Pipelines of several models by name, with the same options.

    Raises:
        ValueError: a model can't be opened, or generators can't be moved off this device.
    """
    from isthmus.backbones.base import Sampling
    from isthmus.cli.quiet import hush
    from isthmus.inference.pipeline import Pipeline

    hush()
    residency = _residency(options)
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p, options.seed, options.context)
    pipelines = {}
    for name, folder in folders.items():
        pipelines[name] = opened = Pipeline.open(
            folder,
            options.device,
            sampling,
            options.num_inference_steps,
            options.guidance_scale,
            options.allow,
            expert_paths(options.experts),
            options.experts_root,
        )
        if opened.model.output_side is not None:
            opened.model.output_side.residency = residency
    return pipelines


def _residency(options: Namespace) -> Any:
    """What keeps a few generators on the GPU; None if all are."""
    from isthmus.generators.residency import Residency
    from isthmus.inference.pipeline import chosen_device

    count, device = options.resident_generators, chosen_device(options.device)
    if count is None:
        return None
    if count < 1:
        raise ValueError(f"resident_generators: found {count}; expected at least 1. Fix: leave it out for all of them.")
    if device.type == "cpu":
        raise ValueError(
            f"resident_generators: found {count} with the device cpu; expected a GPU, since a CPU computes in "
            "host memory. Fix: leave it out."
        )
    return Residency(device, count)
