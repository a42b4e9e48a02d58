"""The plain commands and their options: ``isthmus generate``, ``isthmus chat`` and ``isthmus parts``."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

PIECES = {
    "text": "words",
    "image": "a picture's file",
    "video": "a clip's",
    "audio": "a recording's",
    "points": "a cloud's",
}


class Piece(Action):
    """``--text`` and the media, each as often as wanted: one list in the order in which they were given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.content = [*(namespace.content or []), [self.const, values]]


@dataclass(frozen=True)
class Command:
    """A command: what it does, its options, and the function that runs it."""

    says: str
    parser: Callable[[], ArgumentParser]
    run: Callable[[Namespace], None]


def _common(says: str) -> ArgumentParser:
    parser = ArgumentParser(description=says)
    parser.add_argument(
        "--model", type=Path, required=True, help="a trained stage's folder, such as runs/curriculum/instruction_tuning"
    )
    parser.add_argument("--seed", type=int, default=0, help="of sampled text and of media")
    parser.add_argument("--temperature", type=float, default=0.0, help="of sampled text; 0 takes the likeliest word")
    parser.add_argument("--top_p", type=float, default=1.0, help="share of the likeliest words that is sampled from")
    parser.add_argument("--max_tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--steps", type=int, help="of the generators; each one's own where not given")
    parser.add_argument("--guidance", type=float, help="of the generators; each one's own where not given")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser


def _generate_parser() -> ArgumentParser:
    parser = _common("Answers one request; the pieces of it in the order in which they are given.")
    for modality, says in PIECES.items():
        parser.add_argument(f"--{modality}", action=Piece, const=modality, dest="content", metavar="X", help=says)
    parser.add_argument("--require", action="append", default=[], help="a medium that the answer must hold; repeatable")
    parser.add_argument("--out", type=Path, required=True, help="folder for reply.json and the media")
    return parser


def _chat_parser() -> ArgumentParser:
    parser = _common("A conversation over several turns; /help lists what can be typed.")
    parser.add_argument("--out", type=Path, default=Path("runs/chat"), help="folder for the media of the answers")
    return parser


def _generate(options: Namespace) -> None:
    from isthmus.inference.generate import generate, read_request

    request = read_request(options.content or [])  # a wrong path shows before the model is loaded
    generate(_pipeline(options), request, options.require, options.out)


def _chat(options: Namespace) -> None:
    import sys

    from isthmus.inference.chat import Chat, typed_lines

    Chat(_pipeline(options).session(), options.out).run(typed_lines(sys.stdin))


def _parts_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Lists every part that a config can name.")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    return parser


def _parts(options: Namespace) -> None:
    from isthmus.cli.parts import as_json, as_text

    print(as_json() if options.json else as_text())


def _pipeline(options: Namespace) -> Any:
    from isthmus.backbones.base import Sampling
    from isthmus.cli.quiet import hush
    from isthmus.inference.pipeline import Pipeline

    hush()
    sampling = Sampling(options.max_tokens, options.temperature, options.top_p, options.seed)
    return Pipeline.open(options.model, options.device, sampling, options.steps, options.guidance)


COMMANDS: dict[str, Command] = {
    "generate": Command("answer one request", _generate_parser, _generate),
    "chat": Command("talk to a trained model", _chat_parser, _chat),
    "parts": Command("list encoders, projectors, backbones and generators", _parts_parser, _parts),
}
