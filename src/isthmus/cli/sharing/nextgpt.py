"""``isthmus import nextgpt-v1``: what NExT-GPT's first release has trained, as a folder of this package."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path

PIPELINES = {
    "image": ("stable_diffusion", "stable-diffusion-v1-5"),
    "video": ("zeroscope", "zeroscope_v2_576w"),
    "audio": ("audioldm", "audioldm-l-full"),
}
"""By modality, the option that gives its generator's folder, and where it lies otherwise, below ``checkpoints``."""


def nextgpt_parser() -> Parser:
    """The options of ``isthmus import nextgpt-v1``."""
    options = Parser(description="Imports what NExT-GPT's first release has trained (docs/importing.md).")
    options.add_argument("--delta", type=user_path, required=True, help="its pytorch_model.pt")
    options.add_argument(
        "--vicuna", type=user_path, required=True, help="the folder of the LLM that it was trained over"
    )
    options.add_argument("--imagebind", type=user_path, required=True, help="imagebind_huge.pth")
    options.add_argument("--out", type=user_path, required=True, help="a new folder for the model")
    for modality, (name, folder) in PIPELINES.items():
        says = f"its {modality} generator's folder; checkpoints/{folder} if not given, and left out if that isn't there"
        options.add_argument(f"--{name}", type=user_path, help=says)
    options.add_argument("--lora_alpha", type=float, default=32.0, help="that it was trained with; no tensor tells")
    for modality in PIPELINES:
        says = "signal tokens that it was given, if not as many as the release has"
        options.add_argument(f"--{modality}_signals", type=int, help=says)
    return options


def run_nextgpt(options: Namespace) -> None:
    """Imports it, and says how to go on.

    Raises:
        ValueError: a file is missing or doesn't fit, or ``--out`` isn't new.
    """
    from isthmus.cli.quiet import hush
    from isthmus.importing.nextgpt_v1 import SIGNALS, Source, import_nextgpt_v1

    hush()
    folders = {modality: options[name] or Path("checkpoints", own) for modality, (name, own) in PIPELINES.items()}
    absent = [m for m, folder in folders.items() if options[PIPELINES[m][0]] is not None and not folder.is_dir()]
    if absent:
        name, folder = PIPELINES[absent[0]][0], folders[absent[0]]
        raise ValueError(f"--{name}: found no folder {folder}; expected a diffusers pipeline. Fix: correct the path.")
    source = Source(
        options.delta,
        options.vicuna,
        options.imagebind,
        {modality: folder for modality, folder in folders.items() if folder.is_dir()},
        options.lora_alpha,
        {modality: options[f"{modality}_signals"] or count for modality, count in SIGNALS.items()},
    )
    imported = import_nextgpt_v1(source, options.out)
    print(f"imported: text, image, video, audio -> {', '.join(['text', *imported.outputs])}")
    for modality in imported.left_out:
        name, folder = PIPELINES[modality]
        print(f"left out: {modality}, since there is no checkpoints/{folder}; give its folder by --{name}")
    print(f"chat:     isthmus chat --model {imported.bundle}")
    print(f"measure:  isthmus test -c {imported.config}")
    print(
        f"train:    isthmus fit -c {imported.config} --training.init_from {imported.bundle} "
        "--training.folder runs/mine, and a config of your data"
    )
