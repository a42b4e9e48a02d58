"""The plain commands and their options: ``isthmus generate``, ``chat``, ``parts``, ``experts`` and ``data``."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from isthmus.cli import demo, serve
from isthmus.cli.experts import command as experts
from isthmus.cli.parsing.model import model_parser, open_pipeline
from isthmus.cli.parsing.parser import Parser
from isthmus.cli.runs import comparing, listing, ranking, reporting
from isthmus.cli.sets import build, convert, lint, replay
from isthmus.cli.sharing import bundles, nextgpt
from isthmus.modalities import known_media
from isthmus.paths import user_path


class Piece(Action):
    """``--text`` and the media, each as often as wanted: one list in the order in which they were given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.content = [*(namespace.content or []), [self.const, values]]


@dataclass(frozen=True)
class Command:
    """A command: what it does, its options, the function that runs it, and the commands below it."""

    says: str
    parser: Callable[[], Parser]
    run: Callable[[Namespace], None]
    below: Mapping[str, Command] = field(default_factory=dict)

    def add_to(self, commands: Any, name: str) -> None:
        """Adds the command to a parser's subcommands, and those below it to its own."""
        parser = self.parser()
        commands.add_subcommand(name, parser, help=self.says)
        if self.below:
            inner = parser.add_subcommands()
            for below, command in self.below.items():
                command.add_to(inner, below)


def _generate_parser() -> Parser:
    parser = model_parser("Answers one request; the pieces of it in the order in which they are given.")
    pieces = {"text": "words"} | {str(m): f"the file of {m.spec.article} {m.spec.word}" for m in known_media()}
    for modality, says in pieces.items():
        parser.add_argument(f"--{modality}", action=Piece, const=modality, dest="content", metavar="X", help=says)
    parser.add_argument("--require", action="append", default=[], help="a medium that the answer must hold; repeatable")
    parser.add_argument(
        "--out", type=user_path, required=True, help="folder for reply.json and the media; earlier replies stay"
    )
    return parser


def _chat_parser() -> Parser:
    parser = model_parser("A conversation over several turns; /help lists what can be typed.")
    parser.add_argument("--out", type=user_path, default=Path("runs/chat"), help="folder for the media of the answers")
    return parser


def _generate(options: Namespace) -> None:
    from isthmus.inference.generate import generate, read_request

    request = read_request(options.content or [])  # a wrong path shows before the model is loaded
    generate(open_pipeline(options), request, options.require, options.out)


def _chat(options: Namespace) -> None:
    import sys

    from isthmus.inference.chat import Chat, typed_lines

    Chat(open_pipeline(options).session(), options.out).run(typed_lines(sys.stdin))


def _parts_parser() -> Parser:
    parser = Parser(description="Lists every part that a config can name.")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    return parser


def _parts(options: Namespace) -> None:
    from isthmus.cli.parts import all_parts, all_sets, as_json, as_text

    print((as_json if options.json else as_text)((*all_parts(), *all_sets())))


def _data_parser() -> Parser:
    return Parser(description="Looks after sets of conversations.")


def _data(options: Namespace) -> None:
    DATA[options.subcommand].run(options[options.subcommand])


DATA: dict[str, Command] = {
    "lint": Command("report what is in a set, and its faults", lint.parser, lint.run),
    "build": Command("write dialogues over captioned media", build.parser, build.run),
    "convert": Command("write sets as shards or JSON lines", convert.parser, convert.run),
    "replay": Command("record an LLM's own answers to plain prompts", replay.parser, replay.run),
}
IMPORTS: dict[str, Command] = {
    "nextgpt-v1": Command("NExT-GPT's first release", nextgpt.nextgpt_parser, nextgpt.run_nextgpt),
}
"""What ``isthmus import`` takes by a name in the place of a file."""
COMMANDS: dict[str, Command] = {
    "generate": Command("answer one request", _generate_parser, _generate),
    "chat": Command("talk to a trained model", _chat_parser, _chat),
    "serve": Command("answer over HTTP, as OpenAI's clients ask", serve.parser, serve.run),
    "demo": Command(
        "open a trained model in a browser; train the embedded one first if need be", demo.parser, demo.run
    ),
    "parts": Command("list encoders, projectors, backbones, generators and formats of sets", _parts_parser, _parts),
    "experts": Command("list the experts that a config needs, and fetch them", experts.parser, experts.run),
    "data": Command("look after sets of conversations", _data_parser, _data, DATA),
    "runs": Command("list runs with their stages, data, steps and figures", listing.parser, listing.run),
    "compare": Command("how two runs' configs and figures differ", comparing.parser, comparing.run),
    "report": Command("an evaluation's figures and answers, as a page", reporting.parser, reporting.run),
    "leaderboard": Command("many runs by their figures, in a table", ranking.parser, ranking.run),
    "export": Command("hand a trained model on, as one folder or file", bundles.export_parser, bundles.run_export),
    "push": Command("hand a trained model on, as a repository on the hub", bundles.push_parser, bundles.run_push),
    "import": Command("take a model that others have trained", bundles.import_parser, bundles.run_import),
}
