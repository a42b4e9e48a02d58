"""``isthmus data lint``: what is in a set and what is wrong with it, as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from isthmus.cli.brought import BRINGS
from isthmus.cli.parsing.experts import add_experts, expert_paths
from isthmus.cli.parsing.parser import Parser
from isthmus.paths import user_path

if TYPE_CHECKING:
    from isthmus.data.conversations.schema import Conversation
    from isthmus.data.lint import SourceReport

FAIL_ON = ("error", "warning", "never")


def parser() -> Parser:
    """The command's options."""
    made = Parser(description="Reads sets as training would, and reports what would be skipped and why.")
    made.add_argument("specs", nargs="+", help="files of one format, or configs with data")
    made.add_argument(
        "--format", type=str, default="JsonLines", help="of the files: a class of isthmus.data.formats or .preferences"
    )
    made.add_argument("--root", type=user_path, help="the media's folder; the file's own where not given")
    made.add_argument("--option", action="append", default=[], help="of the format, as direction=draw; repeatable")
    made.add_argument("--brings", action="append", default=[], help=BRINGS)
    made.add_argument("--sample", type=int, help="how many conversations of each set, drawn by a fixed seed")
    made.add_argument("--longest", type=int, default=32_768, help="characters of a text that are still no finding")
    made.add_argument("--quick", action="store_true", help="look for media without opening them")
    made.add_argument(
        "--model",
        type=user_path,
        help="a trained model's folder: its template, lengths, modalities and preprocessing count",
    )
    made.add_argument("--allow", action="append", default=[], help="a package of yours that it may name")
    add_experts(made)
    made.add_argument("--fail_on", choices=FAIL_ON, default="error", help="the least severity that exits with code 1")
    made.add_argument("--json", action="store_true", help="an object by set instead of text")
    return made


def run(options: Namespace) -> None:
    """Lints and prints.

    Raises:
        SystemExit: with code 1, where there are findings of the chosen severity.
        ValueError: a set that can't be opened.
    """
    from isthmus.cli.sets.opening import open_sets
    from isthmus.data.lint import Linter, lint_all

    sets = open_sets(options.specs, options.format, options.root, options.option, options.brings)
    linter = Linter(longest=options.longest, decode=not options.quick)
    if options.model is not None:
        linter.prepare = preparing(options.model, options.allow, expert_paths(options.experts), options.experts_root)
    reports = lint_all(sets, linter, options.sample, bar)
    told = as_json(reports) if options.json else as_text(reports)
    print(told.encode("utf-8", "backslashreplace").decode("utf-8"))  # a file's name needn't be UTF-8
    if fails(reports, options.fail_on):
        raise SystemExit(1)


def preparing(
    folder: Path,
    allow: Sequence[str] = (),
    experts: Mapping[str, str | Path] | None = None,
    experts_root: str | Path | None = None,
) -> Callable[[Conversation], None]:
    """What a trained model does with a conversation before it learns it: plan, preprocess and count.

    Raises:
        ValueError: see :meth:`isthmus.model.AnyToAny.from_checkpoint`.
    """
    from isthmus.data.batching.pairs import Pair
    from isthmus.model import AnyToAny

    model = AnyToAny.from_checkpoint(folder, allow=allow, experts=experts, experts_root=experts_root)
    learnt, asked = model.collator(), model.prompt_collator()

    def prepare(conversation: Conversation) -> None:
        is_answered = any(message.role == "assistant" for message in conversation.messages)
        (learnt if is_answered else asked).sample(conversation)
        if isinstance(conversation, Pair):
            learnt.sample(conversation.other())

    return prepare


def fails(reports: Mapping[str, SourceReport], severity: str) -> bool:
    """Whether there are findings of a severity of :data:`FAIL_ON` or a graver one."""
    from isthmus.data.lint import Severity

    counted = {"error": [Severity.ERROR], "warning": list(Severity), "never": []}[severity]
    return any(report.count(kind) for report in reports.values() for kind in counted)


def as_json(reports: Mapping[str, SourceReport]) -> str:
    """The reports by set."""
    return json.dumps({name: report.as_dict() for name, report in reports.items()}, indent=2, ensure_ascii=False)


def as_text(reports: Mapping[str, SourceReport]) -> str:
    """A block a set: counts, lengths, and each kind of finding with its first places."""
    return "\n\n".join(_block(name, report) for name, report in reports.items())


def _block(name: str, report: SourceReport) -> str:
    from isthmus.data.lint import SEVERITIES

    of = "" if report.read == report.size else f" of {report.size}"
    skipped = report.read - report.usable
    lines = [f"{name}: {report.read}{of} conversations read, {report.usable} usable, {skipped} would be skipped"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
    lines.append(f"  holds    {kinds or 'nothing'}")
    for measure, (least, middle, most) in sorted(report.spread().items()):
        lines.append(f"  length   {measure}: {least:g} least, {middle:g} median, {most:g} most")
    for kind, found in sorted(report.findings.items(), key=lambda entry: (SEVERITIES[entry[0]], entry[0])):
        lines.append(f"  {SEVERITIES[kind]:<8} {kind}: {found.count}")
        lines += [f"           {example}" for example in found.examples]
        if found.count > len(found.examples):
            lines.append(f"           and {found.count - len(found.examples)} more")
    return "\n".join(lines)


def bar(name: str, indices: Iterable[int]) -> Iterable[int]:
    """A progress bar over a set; none where stderr is a file."""
    from tqdm import tqdm

    shown: Iterable[int] = tqdm(indices, desc=name, unit="conversation", disable=None, leave=False)
    return shown
