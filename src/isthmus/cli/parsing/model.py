"""The options by which a command opens a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from isthmus.cli.parsing.experts import add_experts, expert_paths
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path

SAMPLING: dict[str, tuple[type, str]] = {
    "seed": (int, "of sampled text and of media"),
    "temperature": (float, "of sampled text, 0 takes the likeliest word"),
    "top_p": (float, "share of the likeliest words that is sampled from"),
    "max_new_tokens": (int, "of an answer"),
    "context": (int, "tokens of a conversation and its answer together"),
}
"""The options of :class:`~isthmus.backbones.base.Sampling`: the type and the help of each."""


def model_parser(says: str, several: bool = False) -> Parser:
    """A parser of a command that does as it says, with a trained model, or with several by name."""
    parser = Parser(description=says)
    folder = "a trained stage's folder, such as runs/curriculum/instruction_tuning"
    if several:
        more = f"{folder}; repeatable as NAME=FOLDER, for models over the same experts, which are loaded once"
        parser.add_argument("--model", type=str, action="append", required=True, help=more)
    else:
        parser.add_argument("--model", type=user_path, required=True, help=folder)
    for name, (kind, of) in SAMPLING.items():
        parser.add_argument(f"--{name}", type=kind, help=f"{of}; as the model has it where not given")
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
    from isthmus.cli.quiet import hush
    from isthmus.inference.pipeline import Pipeline

    hush()
    residency = _residency(options)
    given = {name: value for name in SAMPLING if (value := getattr(options, name)) is not None}
    pipelines = {}
    for name, folder in folders.items():
        pipelines[name] = opened = Pipeline.open(
            folder,
            options.device,
            None,
            options.num_inference_steps,
            options.guidance_scale,
            options.allow,
            expert_paths(options.experts),
            options.experts_root,
        )
        if given:
            sampling = replace(opened.sampling, **given)
            opened = Pipeline(opened.model, sampling, options.num_inference_steps, options.guidance_scale)
            pipelines[name] = opened
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
