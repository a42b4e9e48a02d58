"""``isthmus data convert``: sets of any format -> shards or JSON lines, and a report of what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from isthmus.cli.brought import BRINGS
from isthmus.cli.parsing.parser import Parser
from isthmus.cli.sets.lint import FAIL_ON, as_text, bar, fails
from isthmus.paths import user_path

if TYPE_CHECKING:
    from isthmus.data.streaming.convert import Converted, Writer

KINDS = ("shards", "jsonl")


def parser() -> Parser:
    """The command's options."""
    made = Parser(description="Writes sets anew, as shards or as JSON lines; media are copied as they are.")
    made.add_argument("specs", nargs="+", help="files of one format, or configs with data")
    made.add_argument("out", type=str, help="an empty folder or none; for shards also a URL, as s3://bucket/set")
    made.add_argument("--to", choices=KINDS, default="shards", help="tar files with an index, or lines and files")
    made.add_argument("--format", type=str, default="JsonLines", help="of the files: a class of isthmus.data.formats")
    made.add_argument("--root", type=user_path, help="the media's folder; the file's own where not given")
    made.add_argument("--option", action="append", default=[], help="of the format, as direction=draw; repeatable")
    made.add_argument("--brings", action="append", default=[], help=BRINGS)
    made.add_argument("--largest", type=float, default=256.0, help="megabytes (2^20 bytes) of a shard")
    made.add_argument("--shuffle", type=int, help="a seed, to write each set in a drawn order")
    made.add_argument("--longest", type=int, default=32_768, help="characters of a text that are still no finding")
    made.add_argument("--quick", action="store_true", help="copy media without decoding them first")
    made.add_argument("--fail_on", choices=FAIL_ON, default="error", help="the least severity that exits with code 1")
    made.add_argument("--json", action="store_true", help="an object by set instead of text")
    return made


def run(options: Namespace) -> None:
    """Converts and prints.

    Raises:
        SystemExit: with code 1, where there are findings of the chosen severity; the set is whole all the same.
        ValueError: a set that can't be opened, or a folder that holds something else.
    """
    from isthmus.cli.sets.opening import open_sets
    from isthmus.data.lint import Linter
    from isthmus.data.streaming.convert import convert

    sets = open_sets(options.specs, options.format, options.root, options.option, options.brings)
    linter = Linter(longest=options.longest, decode=not options.quick)
    done = convert(sets, _writer(options), linter, options.shuffle, bar)
    print(as_json(done) if options.json else told(done, options.out))
    reports = {name: converted.report for name, converted in done.items()}
    left_out = any(converted.skipped for converted in done.values())
    if fails(reports, options.fail_on) or (left_out and options.fail_on != "never"):
        raise SystemExit(1)


def as_json(done: Mapping[str, Converted]) -> str:
    """By set: what was read, written and skipped, and lint's report."""
    found: dict[str, Any] = {
        name: {**converted.counts(), "resumed": converted.resumed, "report": converted.report.as_dict()}
        for name, converted in done.items()
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def told(done: Mapping[str, Converted], out: str) -> str:
    """Lint's report of each set, and what was written."""
    lines = [as_text({name: converted.report for name, converted in done.items()}), ""]
    for name, converted in done.items():
        skipped = ", ".join(f"{count} {kind}" for kind, count in sorted(converted.skipped.items())) or "none"
        earlier = f" ({converted.resumed} of them read in an earlier run)" if converted.resumed else ""
        lines.append(f"{name}: {converted.written} of {converted.read} written{earlier}; skipped: {skipped}")
    lines.append(f"{out}: {sum(converted.written for converted in done.values())} conversations")
    return "\n".join(lines)


def _writer(options: Namespace) -> Writer:
    from isthmus.data.streaming.lines import LinesWriter
    from isthmus.data.streaming.storage import Storage
    from isthmus.data.streaming.writer import ShardWriter

    if options.to == "jsonl":
        return LinesWriter(options.out)
    # What would make other shards; a run with another of these doesn't go on with them.
    names = ("specs", "format", "option", "shuffle", "longest", "quick")
    job = {name: options[name] for name in names}
    job["root"] = None if options.root is None else str(options.root)
    return ShardWriter(Storage(options.out), job, int(options.largest * (1 << 20)))
