"""``isthmus compare``: how the configs and the figures of two runs, or of two result files, differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from isthmus.cli.parsing.parser import Parser
from isthmus.cli.runs.found import MANIFEST, read_config, read_facts
from isthmus.earlier.options import renamed
from isthmus.evaluation.comparing.comparison import LEVEL, Compared, Comparison, compare_results, told_differences
from isthmus.evaluation.comparing.differences import differences
from isthmus.evaluation.comparing.stored import Result, read_result, results_in
from isthmus.paths import user_path

OWN = {"training.folder", "experts", "experts_root", "overwrite", "ckpt_path"}
"""Settings that differ between any two runs, or that say nothing of what was learnt."""
CONFIGS = (".yaml", ".yml")


def parser() -> Parser:
    """The command's options."""
    made = Parser(
        description="Compares two runs (folders), two result files (metrics.json, matrix.json) or two configs."
    )
    made.add_argument("first", type=user_path, help="a run's folder, a trained stage's, a result file or a config")
    made.add_argument("second", type=user_path, help="another of the same kind")
    made.add_argument(
        "--figures", action="append", default=[], metavar="PATTERN", help="only these, as 'coco/text/*'; repeatable"
    )
    made.add_argument(
        "--anyhow", action="store_true", help="show figures of different protocols beside each other, without a test"
    )
    made.add_argument("--json", action="store_true", help="an object instead of text")
    return made


def run(options: Namespace) -> None:
    """Compares and prints.

    Raises:
        ValueError: one isn't there, or holds neither a config nor figures; or two files of figures were measured by
            different protocols.
    """
    first, second = _sides(options.first), _sides(options.second)
    made = [read_facts(path) for path in (options.first, options.second)]
    common = [name for name in first[1] if name in second[1]]
    compared = {
        name: compare_results(first[1][name], second[1][name], options.figures, options.anyhow) for name in common
    }
    found = {
        "config": dict(differences(renamed(first[0]), renamed(second[0]), OWN)),
        "made": dict(differences(made[0], made[1])) if all(made) else {},
        "figures": {name: own.as_dict() for name, own in compared.items()},
        "only": {
            str(path): sorted(one.keys() - other.keys())
            for path, one, other in ((options.first, first[1], second[1]), (options.second, second[1], first[1]))
        },
    }
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_told(found, compared, has_configs=bool(first[0] and second[0]))))


def _sides(path: Path) -> tuple[dict[str, Any], dict[str, Result]]:
    """The config and the result files of what was named."""
    if path.is_file() and path.suffix in CONFIGS:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return (content if isinstance(content, dict) else {}), {}
    if path.is_file():
        result = read_result(path)
        return {}, {"figures": result}
    if not path.is_dir():
        raise ValueError(f"{path}: found nothing there; expected a run's folder, a result file or a config.")
    manifest = path / MANIFEST
    if manifest.is_file():
        return {"model": json.loads(manifest.read_text(encoding="utf-8"))["configuration"]}, results_in(path.parent)
    config, results = read_config(path), results_in(path)
    if not config and not results:
        raise ValueError(f"{path}: found neither config.yaml nor figures; expected a run's folder. Fix: name one.")
    return config, results


def _told(found: Mapping[str, Any], compared: Mapping[str, Comparison], has_configs: bool) -> Iterator[str]:
    if has_configs:
        count = len(found["config"])
        yield f"config: {count} setting{' differs' if count == 1 else 's differ'}"
        yield from (f"  {key}: {one} -> {other}" for key, (one, other) in found["config"].items())
    if made := found["made"]:
        yield f"\nmade with: {len(made)} difference{'' if len(made) == 1 else 's'}"
        yield from (f"  {key}: {one} -> {other}" for key, (one, other) in made.items())
    for name, comparison in compared.items():
        yield ""
        yield name
        yield from _figures(comparison)
    for path, names in found["only"].items():
        if names:
            yield f"\nonly in {path}: {', '.join(names)}"


def _figures(found: Comparison) -> Iterator[str]:
    if unlike := told_differences(found.figures):
        yield "  measured by different protocols (marked !): these figures can't be compared"
        yield from (f"    {line}" for line in unlike)
    for path in found.unstated:
        yield f"  {path} doesn't say how it was measured: it may be by another protocol"
    for path in found.brought:
        yield f"  {path} doesn't say how its answers were made: sampling and generators aren't compared"
    rows = [row for row in found.figures if row.first.value != row.second.value or row.test is not None]
    if rows:
        yield from _table([_cells(row) for row in rows])
    if found.tested:
        yield f"  p: of a paired test ({', '.join(_methods(found))}) over the n conversations that both have scored,"
        yield f"  corrected by Holm for {found.tested} tests; better, worse: p below {LEVEL:g}; in brackets 95 % bounds"
    if any(row.test is None and row.intervals_apart is None for row in rows):
        yield "  no interval: the test run computes none for this figure; repeat both with other seeds"
    if equal := len(found.figures) - len(rows):
        yield f"  {equal} figures are equal"
    for path, names in zip(found.files, found.only, strict=True):
        if names:
            yield f"  only in {path}: {', '.join(names)}"


def _methods(found: Comparison) -> list[str]:
    return sorted({row.test.method for row in found.figures if row.test is not None})


def _cells(row: Compared) -> list[str]:
    """A figure's line: name, both values, the difference, and what is known of it."""
    change = row.second.value - row.first.value
    cells = [("! " if row.protocol else "") + row.name, f"{row.first.value:.4g}", f"{row.second.value:.4g}"]
    if row.protocol:
        return [*cells, f"{change:+.4g}", "other protocol"]
    if row.test is None:
        mark = {True: f"intervals apart: {row.verdict}", False: "", None: "no interval"}[row.intervals_apart]
        return [*cells, f"{change:+.4g}", mark]
    assert row.corrected is not None
    low, high = row.test.interval
    known = f"[{low:+.3g}, {high:+.3g}]  n {row.test.n}  p {row.corrected:.3g}"
    return [*cells, f"{row.test.difference:+.4g}", f"{known}  {row.verdict}".rstrip()]


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    for name, *numbers, known in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        yield "  ".join(["", name.ljust(widths[0]), *cells, known]).rstrip()
