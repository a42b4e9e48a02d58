"""``isthmus compare``: how the configs and the figures of two runs, or of two result files, differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from isthmus.cli.parsing.parser import Parser
from isthmus.cli.runs.found import MANIFEST, read_config
from isthmus.cli.runs.results import Result, is_count, read_result, results_in
from isthmus.earlier.options import renamed
from isthmus.paths import user_path

OWN = {"training.folder", "experts", "experts_root", "overwrite", "ckpt_path"}
"""Settings that differ between any two runs, or that say nothing of what was learnt."""
CONFIGS = (".yaml", ".yml")
ABSENT = "(none)"
MARKS = {True: "  intervals apart", False: "", None: "  no interval"}
"""What stands behind two figures, by whether their intervals don't meet."""
SHOWN = 8
"""So many differences of two protocols are shown."""


def parser() -> Parser:
    """The command's options."""
    made = Parser(description="Compares two runs (folders), or two result files or configs (matrix.json, config.yaml).")
    made.add_argument("first", type=user_path, help="a run's folder, a trained stage's, a result file or a config")
    made.add_argument("second", type=user_path, help="another of the same kind")
    made.add_argument("--json", action="store_true", help="an object instead of text")
    return made


def run(options: Namespace) -> None:
    """Compares and prints.

    Raises:
        ValueError: one isn't there, or holds neither a config nor figures.
    """
    first, second = _sides(options.first), _sides(options.second)
    found = {
        "config": dict(_differences(renamed(first[0]), renamed(second[0]))),
        "figures": {name: compared(first[1][name], second[1][name]) for name in first[1] if name in second[1]},
        "only": {
            str(path): sorted(one.keys() - other.keys())
            for path, one, other in ((options.first, first[1], second[1]), (options.second, second[1], first[1]))
        },
    }
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_told(found, has_configs=bool(first[0] and second[0]))))


def compared(first: Result, second: Result) -> dict[str, Any]:
    """Two files of figures: what differs in how they were measured, and the figures of both."""
    protocols = [first.protocol, second.protocol]
    unstated = [str(one.path) for one in (first, second) if one.protocol is None]
    differs = {} if None in protocols else dict(_differences(first.protocol or {}, second.protocol or {}))
    names = [name for name in first.figures if name in second.figures]
    if unstated:  # then samples that differ in number are all that can be told
        counts = {name: [int(first.figures[name]), int(second.figures[name])] for name in names if is_count(name)}
        differs = {name: values for name, values in counts.items() if values[0] != values[1]}
    rows = {
        name: {
            "values": [first.figures[name], second.figures[name]],
            "intervals_apart": _apart(first.intervals.get(name), second.intervals.get(name)),
        }
        for name in names
        if not is_count(name)
    }
    return {"protocol": differs, "without_protocol": unstated, "figures": rows}


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


def _differences(first: Any, second: Any, key: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Dotted key -> the two values, of all that differs; what one side lacks is one key, whatever is below it."""
    one, other = _fields(first), _fields(second)
    if key in OWN or first == second:
        return
    if one is None or other is None:
        yield key, [_brief(first), _brief(second)]
        return
    for name in dict.fromkeys([*one, *other]):
        yield from _differences(one.get(name, ABSENT), other.get(name, ABSENT), f"{key}.{name}" if key else name)


def _fields(value: Any) -> dict[str, Any] | None:
    if isinstance(value, list):
        value = dict(enumerate(value))
    return {str(name): each for name, each in value.items()} if isinstance(value, Mapping) else None


def _brief(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("class_path", f"({len(value)} settings)" if value else value)
    return value


def _apart(first: tuple[float, float] | None, second: tuple[float, float] | None) -> bool | None:
    """Whether two intervals don't meet; None where one isn't known."""
    return None if first is None or second is None else first[1] < second[0] or second[1] < first[0]


def _told(found: Mapping[str, Any], has_configs: bool) -> Iterator[str]:
    if has_configs:
        count = len(found["config"])
        yield f"config: {count} setting{' differs' if count == 1 else 's differ'}"
        yield from (f"  {key}: {one} -> {other}" for key, (one, other) in found["config"].items())
    for name, figures in found["figures"].items():
        yield ""
        yield from _figures(name, figures)
    for path, names in found["only"].items():
        if names:
            yield f"\nonly in {path}: {', '.join(names)}"


def _figures(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield name
    if found["protocol"]:
        yield "  measured by different protocols: these figures can't be compared"
        shown = list(found["protocol"].items())[:SHOWN]
        yield from (f"    {key}: {one} -> {other}" for key, (one, other) in shown)
        if more := len(found["protocol"]) - len(shown):
            yield f"    and {more} more"
    for path in found["without_protocol"]:
        yield f"  {path} doesn't say how it was measured: it may be by another protocol"
    rows = {key: one for key, one in found["figures"].items() if one["values"][0] != one["values"][1]}
    width = max(map(len, rows), default=0)
    for key, one in rows.items():
        first, second = one["values"]
        mark = MARKS[one["intervals_apart"]]
        yield f"  {key:<{width}}  {first:10.4g}  {second:10.4g}  {second - first:+10.4g}{mark}"
    if any(one["intervals_apart"] is None for one in rows.values()):
        yield "  no interval: the test run computes none for this figure; repeat both with other seeds"
    if equal := len(found["figures"]) - len(rows):
        yield f"  {equal} figures are equal"
