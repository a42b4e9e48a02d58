"""``isthmus data build``: captioned media of any format -> instruction dialogues, and a report of what was built."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from isthmus.cli.brought import BRINGS
from isthmus.cli.parsing.parser import Parser
from isthmus.cli.sets.lint import FAIL_ON, bar, fails
from isthmus.paths import user_path

if TYPE_CHECKING:
    from isthmus.data.building import BuiltDialogues
    from isthmus.data.streaming.convert import Converted


def parser() -> Parser:
    """The command's options."""
    made = Parser(description="Writes dialogues over captioned media: JSON lines, and the media beside them.")
    made.add_argument("specs", nargs="+", help="captioned media: files of one format, or configs with data")
    made.add_argument("out", type=user_path, help="a folder without a set")
    made.add_argument("--format", type=str, default="ManifestSource", help="of the files: see `isthmus data lint`")
    made.add_argument("--root", type=user_path, help="the media's folder; the file's own where not given")
    made.add_argument("--option", action="append", default=[], help="of the format, as splits=[train]; repeatable")
    made.add_argument("--brings", action="append", default=[], help=BRINGS)
    made.add_argument("--size", type=int, default=10_000, help="dialogues, those of text alone included")
    made.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    made.add_argument("--templates", type=user_path, help="a file in place of the package's own wordings")
    made.add_argument("--share", action="append", default=[], help="of a kind, as refuse=0.2; repeatable")
    made.add_argument("--text", action="append", default=[], help="a set of text alone to mix in; repeatable")
    made.add_argument("--text_format", type=str, default="Alpaca", help="of these sets")
    made.add_argument("--text_share", type=float, default=0.0, help="which part of all dialogues they are")
    made.add_argument(
        "--concept", type=str, help="field that says what stands for one another, as label; else captions"
    )
    made.add_argument("--output", action="append", help="a modality to be made, repeatable; all where not given")
    made.add_argument("--overwrite", action="store_true", help="replace a set that is there already")
    made.add_argument("--fail_on", choices=FAIL_ON, default="error", help="the least severity that exits with code 1")
    made.add_argument("--json", action="store_true", help="an object instead of text")
    return made


def run(options: Namespace) -> None:
    """Builds and prints.

    Raises:
        SystemExit: with code 1, where there are findings of the chosen severity; the set is whole all the same.
        ValueError: a set that can't be opened or has no captions, bad templates, or a folder that holds a set.
    """
    from isthmus.cli.sets.opening import open_sets
    from isthmus.data.building import BuiltDialogues
    from isthmus.data.lint import Linter
    from isthmus.data.streaming.convert import convert
    from isthmus.data.streaming.lines import LinesWriter

    source = BuiltDialogues(
        open_sets(options.specs, options.format, options.root, options.option, options.brings),
        options.size,
        options.seed,
        options.templates,
        _shares(options.share),
        open_sets(options.text, options.text_format) if options.text else None,
        options.text_share,
        options.concept,
        options.output,
        bar,
    )
    writer = LinesWriter(options.out, options.overwrite)
    done = convert({source.name: source}, writer, Linter(), progress=bar)[source.name]
    print(json.dumps(as_dict(source, done), indent=2, ensure_ascii=False) if options.json else told(source, done))
    if fails({source.name: done.report}, options.fail_on) or (done.skipped and options.fail_on != "never"):
        raise SystemExit(1)


def as_dict(source: BuiltDialogues, done: Converted) -> dict[str, Any]:
    """What was read, built and left out."""
    kinds = Counter(source.kind(index) for index in range(len(source)))
    return {
        "media": source.pool.counts(),
        "made": list(source.outputs),
        "shown_in_several_modalities": len(source.pool.shared),
        "unreadable": dict(source.pool.faults),
        "without_a_caption": {name: count for name, count in source.pool.uncaptioned.items() if count},
        "kinds": dict(sorted(kinds.items())),
        **done.counts(),
        "report": done.report.as_dict(),
    }


def told(source: BuiltDialogues, done: Converted) -> str:
    """The same as text."""
    found = as_dict(source, done)

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"

    by = "captions" if source.pool.concept is None else f"concepts by {source.pool.concept}"
    left_out = sorted(set(source.templates.shares) - set(source.kinds))
    made = ", ".join(found["made"]) or "none"
    lines = [
        f"media: {listed(found['media'])}; {found['shown_in_several_modalities']} {by} have several modalities",
        f"made: {made}",
        f"left out: {listed(found['unreadable'])} unreadable, {listed(found['without_a_caption'])} without a caption",
        f"dialogues: {listed(found['kinds'])}" + (f"; no {', '.join(left_out)}" if left_out else ""),
        f"holding: {listed(dict(sorted(done.report.kinds.items())))}",
        f"{done.written} of {done.read} written; skipped: {listed(found['skipped'])}",
    ]
    # Media are used again and again, on purpose: that isn't worth a line each.
    findings = {str(kind): has.count for kind, has in done.report.findings.items() if kind != "duplicate medium"}
    if findings:
        lines.append(f"findings: {listed(findings)}; `isthmus data lint` of the new set tells where")
    return "\n".join(lines)


def _shares(options: list[str]) -> dict[str, float]:
    shares = {}
    for option in options:
        kind, _, share = option.partition("=")
        try:
            shares[kind] = float(share)
        except ValueError:
            raise ValueError(f"--share: found {option!r}; expected kind=number, as refuse=0.2") from None
    return shares
